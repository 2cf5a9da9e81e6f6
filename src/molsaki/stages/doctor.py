"""`molsaki doctor`: what a run of a recipe will read, skip, store and cost, before it starts.

The data stage, and the check of existing rationales, run for real in a temporary folder. Texts are tokenized with the
real tokenizers. Of models only the configuration is loaded, no weights. Errors are collected and reported together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.encoding.chats import keeps_completions, render_template
from molsaki.encoding.encode import require_offsets
from molsaki.errors import MolsakiError
from molsaki.models.estimates import (
    BYTES,
    Machine,
    probe_machine,
    reading_memory,
    reading_seconds,
    show_bytes,
    writing_seconds,
)
from molsaki.models.load import pick_device, quiet_libraries
from molsaki.records import Problem
from molsaki.spans.views import View
from molsaki.stages import pipeline
from molsaki.stages.attend import reading_prompt
from molsaki.stages.check import open_workspace
from molsaki.stages.doctor_students import check_students
from molsaki.stages.findings import Finding, Level, ModelOutline, count_tokens, describe_lengths, estimate_cost
from molsaki.stages.next_tokens import TOLD, next_token_rules, wants_next_tokens
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.teacher.served import check_server

ASSUMED_STEPS, ASSUMED_KEYS = 5, 8
"""Steps and keys assumed for a rationale that does not exist yet: about the mean of PaLM's for SVAMP."""
ASSUMED_WORDS = 60, 120
"""Words assumed for such a rationale, and for the rationale and its question together."""


def diagnose(recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Check everything that a run of a recipe depends on.

    Args:
        recipe: a resolved recipe.
        say: called with the name of each check before it starts.
    """
    quiet_libraries()
    findings: list[Finding] = []
    with TemporaryDirectory() as folder:
        workspace = open_workspace(recipe, Path(folder) / "run")
        machine: list[Machine] = []
        checks: Mapping[str, Callable[[], Iterator[Finding]]] = {
            "machine": lambda: _machine(recipe, machine),
            "data": lambda: _data(workspace),
            "rationales": lambda: _rationales(workspace, machine),
            "attention": lambda: _attention(workspace, machine),
            "training": lambda: check_students(workspace, machine),
        }
        for about, check in checks.items():
            say(about)
            try:
                findings += check()
            except (MolsakiError, OSError) as error:
                findings.append(Finding(about, str(error), "error"))
                if about == "data":
                    break  # the other checks need its problems
    return findings


def _machine(recipe: Recipe, found: list[Machine]) -> Iterator[Finding]:
    machine = probe_machine(pick_device(), "float32")
    found.append(machine)
    text = f"{machine.device}, {show_bytes(machine.memory)} of memory" if machine.memory else machine.device
    yield Finding("machine", f"{text}, {machine.speed / 1e9:.0f} GFLOP/s in float32")
    if recipe.tiny:
        yield Finding("machine", "--tiny: the figures are for small random models", "warning")


def _data(workspace: Workspace) -> Iterator[Finding]:
    for name, report in pipeline.load_data(workspace).items():
        level: Level = "plain" if report["kept"] else "error"
        yield Finding("data", f"{name}: {report['read']} rows, {report['kept']} used", level)
        for reason, n in {**report["skipped"], **report["notes"]}.items():
            yield Finding("data", f"{name}: {n} {reason}")


def _rationales(workspace: Workspace, machine: list[Machine]) -> Iterator[Finding]:
    recipe = workspace.recipe
    source = recipe.rationales.source
    if source in ("palm", "dataset"):
        manifest = pipeline.generate(workspace)
        level: Level = "plain" if manifest["kept"] else "error"
        yield Finding("rationales", f"{manifest['kept']} of {manifest['problems']} kept", level)
        for reason, n in manifest["reasons"].items():
            if reason not in ("right", "given"):
                yield Finding("rationales", f"{n} not kept: {reason}")
        return
    problems = workspace.read_problems(TRAIN)
    if source == "imported":
        yield Finding("rationales", f"to be imported for {plural(len(problems), 'problem')} by `molsaki import`")
        return
    writer = recipe.teacher.writer
    assert writer is not None, "check_consistency requires a writer"
    if isinstance(writer, ServerSpec):
        yield Finding("rationales", f"{writer.name} writes for {plural(len(problems), 'problem')}")
        check = check_server(writer)
        text = f"{check.says} (after {check.seconds:.1f} s)"
        yield Finding("rationales", text, "plain" if check.answers else "error")
        return
    yield from _local_writer(workspace, writer, problems, machine)


def _local_writer(
    workspace: Workspace, writer: ModelSpec, problems: list[Problem], machine: list[Machine]
) -> Iterator[Finding]:
    recipe = workspace.recipe
    model = ModelOutline.load(recipe, writer)
    settings = recipe.rationales
    template = render_template(model.tokenizer, workspace.template("teacher"))
    prompts = count_tokens(
        model.tokenizer, [template.prompt(problem.text) for problem in problems], template.special_tokens
    )
    context = model.context(None)
    yield Finding(
        "rationales",
        f"{writer.name} writes for {plural(len(problems), 'problem')} with prompts of {describe_lengths(prompts)}",
    )
    too_long = sum(length + settings.max_new_tokens > context for length in prompts)
    if too_long:
        text = f"{plural(too_long, 'prompt')} without room for max_new_tokens in the context of {context} tokens"
        yield Finding("rationales", text, "warning")
    yield from estimate_cost(
        "rationales",
        machine,
        reading_memory(model.outline, writer.dtype, settings.batch_size * max(prompts, default=1)),
        lambda at: (
            reading_seconds(model.outline, settings.samples * sum(prompts), at)
            + writing_seconds(
                model.outline,
                writer.dtype,
                len(prompts) * settings.samples,
                settings.batch_size,
                settings.max_new_tokens,
                at,
            )
        ),
    )
    if recipe.keys == "numbers":
        without = sum(not any(map(str.isdigit, problem.text)) for problem in problems)
        if without:
            yield Finding("rationales", f"{plural(without, 'question')} without a number; the rationales may have some")


def _attention(workspace: Workspace, machine: list[Machine]) -> Iterator[Finding]:
    recipe = workspace.recipe
    spec = recipe.teacher.attending
    views = pipeline.views(workspace)
    if not views or spec is None:
        yield Finding("attention", "not read, since no method compares it")
        return
    model = ModelOutline.load(recipe, spec)
    require_offsets(model.tokenizer, end=False)
    yield _chat_keeps(workspace, model)
    memory = reading_memory(model.outline, spec.dtype, max(recipe.attention.batch_tokens, 1))
    for view in views:
        tokens = yield from _view(workspace, spec, model, view)
        seconds = partial(reading_seconds, model.outline, tokens)
        yield from estimate_cost(view.title, machine, memory, seconds)
    if wants_next_tokens(workspace):
        yield _next_tokens(workspace, model)


def _next_tokens(workspace: Workspace, model: ModelOutline) -> Finding:
    """The size of the store of next tokens: a few numbers for each token of each rationale."""
    from molsaki.store.next_tokens import TEMPERATURES, row_shape

    if workspace.run.stage_done(pipeline.GENERATE) is None:
        longest = workspace.recipe.rationales.max_new_tokens
        lengths, if_so = [longest] * len(workspace.read_problems(TRAIN)), f", if rationales have {longest} tokens"
    else:
        texts = workspace.read_texts(TRAIN)[1].values()
        lengths, if_so = count_tokens(model.tokenizer, [text.rationale for text in texts], special_tokens=False), ""
    top = min(workspace.recipe.logits.top, model.outline.text.vocab_size)
    marked = next_token_rules(workspace)[TEMPERATURES]
    size = BYTES["float32"] * sum(math.prod(row_shape(length + 1, top, marked)) for length in lengths)  # and its end
    return Finding(TOLD, f"the store has about {show_bytes(size)}, {top} likeliest at each token{if_so}")


def _view(workspace: Workspace, spec: ModelSpec, model: ModelOutline, view: View) -> Generator[Finding, None, int]:
    """What a view of the teacher's attention reads, skips and stores. Returns the number of tokens to read."""
    from molsaki.teacher.read_attention import CUT, NO_KEYS, prepare_texts

    recipe = workspace.recipe
    layers = 1 if recipe.attention.layers == "mixed" else model.outline.text.num_hidden_layers
    rows = layers * model.outline.text.num_attention_heads if view.heads else layers
    width = rows * BYTES[recipe.attention.dtype]
    if workspace.run.stage_done(pipeline.GENERATE) is None:
        problems = workspace.read_problems(TRAIN)
        steps, keys = ASSUMED_WORDS if view.words else (ASSUMED_STEPS, ASSUMED_KEYS)
        of = f"{steps} words and questions {keys - steps}" if view.words else f"{steps} steps and {keys} keys"
        size = width * steps * keys * len(problems)
        yield Finding(view.title, f"the store has about {show_bytes(size)}, if rationales have {of}")
        tokens = sum(count_tokens(model.tokenizer, [problem.text for problem in problems]))
        return tokens + len(problems) * recipe.rationales.max_new_tokens
    context = model.context(recipe.attention.max_length)
    _, texts = workspace.read_texts(TRAIN)
    prompt = reading_prompt(workspace, model.tokenizer)
    prepared, report = prepare_texts(model.tokenizer, list(texts.values()), prompt, context, view)
    lengths = [item.length for item in prepared]
    size = width * sum(item.size for item in prepared)
    yield Finding(view.title, f"{spec.name} reads {len(prepared)} texts of {describe_lengths(lengths)}; {context} fit")
    cut = report.notes.pop(CUT, 0)
    share = 100 * cut / max(1, len(prepared))
    yield Finding(view.title, f"{cut} are cut there ({share:.1f} %)", "warning" if cut else "plain")
    for reason, n in {**report.skipped, **report.notes}.items():
        yield Finding(view.title, f"{n} {reason}", "warning" if reason == NO_KEYS else "plain")
    each = f"{rows} heads of {layers} layers" if view.heads else f"{layers} layers"
    yield Finding(view.title, f"the store has {show_bytes(size)}, {each} in {recipe.attention.dtype}")
    return sum(lengths)


def _chat_keeps(workspace: Workspace, model: ModelOutline) -> Finding:
    """Whether the text in which attention is read equals the text that the model generates."""
    template = workspace.template("teacher")
    if not template.is_chat:
        unused = ", and the tokenizer's chat template is not used" if model.tokenizer.chat_template else ""
        return Finding("attention", f"the prompt is plain text{unused}")
    if keeps_completions(model.tokenizer, template):
        return Finding("attention", "the chat template does not change the rationale")
    text = "the chat template changes a finished answer; attention is read after the opening of the assistant's turn"
    return Finding("attention", f"{text}, where the model generates it", "warning")

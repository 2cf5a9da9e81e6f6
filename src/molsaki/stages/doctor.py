"""A look before the leap: what a recipe will read, skip, store and need, before any hour is spent on it.

The data stage, and where rationales exist already their check, are truly run, in a folder that is deleted; texts are
tokenized with the real tokenizers. Models are known by their configurations, no weights are loaded. What is wrong is
collected, not raised, so that all of it is said at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.encoding.chats import keeps_completions, render_template
from molsaki.errors import MolsakiError
from molsaki.models.estimates import (
    BYTES,
    Machine,
    probe_machine,
    reading_memory,
    reading_seconds,
    show_bytes,
    show_seconds,
    training_memory,
    training_seconds,
    writing_seconds,
)
from molsaki.models.load import Outline, load_tokenizer, outline_model, pick_device, quiet_libraries
from molsaki.spans.views import View
from molsaki.stages import pipeline
from molsaki.stages.attend import reading_prompt
from molsaki.stages.check import open_workspace
from molsaki.stages.next_tokens import TOLD, next_token_rules, wants_next_tokens
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.teacher.served import check_server

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Level = Literal["plain", "warning", "error"]
ASSUMED_STEPS, ASSUMED_KEYS = 5, 8
"""Steps and keys of a rationale that nobody has written yet: about the mean of PaLM's for SVAMP."""
ASSUMED_WORDS = 60, 120
"""Words of such a rationale, and of it and its question together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        about: the stage or the part of the recipe.
        text: what was found.
        level: "error" stops the run, "warning" is worth a thought.
    """

    about: str
    text: str
    level: Level = "plain"


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of the recipe as far as it is known without its weights."""

    spec: ModelSpec
    tokenizer: PreTrainedTokenizerBase
    outline: Outline

    def context(self, asked: int | None) -> int:
        """How many tokens fit."""
        from molsaki.encoding.encode import context_length

        return context_length(self.tokenizer, self.outline.config, asked)


def diagnose(recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Look at everything that a run of this recipe depends on.

    Args:
        recipe: checked and resolved.
        say: is told what is being looked at.
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
            "training": lambda: _training(workspace, machine),
        }
        for about, check in checks.items():
            say(about)
            try:
                findings += check()
            except (MolsakiError, OSError) as error:
                findings.append(Finding(about, str(error), "error"))
                if about == "data":
                    break  # all the others are about its rows
    return findings


def _machine(recipe: Recipe, found: list[Machine]) -> Iterator[Finding]:
    found.append(probe_machine(pick_device(), "float32"))
    machine = found[0]
    text = f"{machine.device}, {show_bytes(machine.memory)} of memory" if machine.memory else machine.device
    yield Finding("machine", f"{text}, {machine.speed / 1e9:.0f} billion operations a second in float32")
    if recipe.tiny:
        yield Finding("machine", "--tiny: the figures below are of small random models", "warning")


def _data(workspace: Workspace) -> Iterator[Finding]:
    for name, report in pipeline.load_data(workspace).items():
        level: Level = "plain" if report["kept"] else "error"
        yield Finding("data", f"{name}: {report['read']} rows, {report['kept']} used", level)
        for reason, n in {**report["skipped"], **report["notes"]}.items():
            yield Finding("data", f"{name}: {n} {reason}")


def _rationales(workspace: Workspace, machine: list[Machine]) -> Iterator[Finding]:
    recipe = workspace.recipe
    source = recipe.rationales.source
    if source in ("palm", "dataset", "file"):
        manifest = pipeline.generate(workspace)
        level: Level = "plain" if manifest["kept"] else "error"
        yield Finding("rationales", f"{manifest['kept']} of {manifest['problems']} are kept", level)
        for reason, n in manifest["reasons"].items():
            if reason not in ("right", "given"):
                yield Finding("rationales", f"{n} are not: {reason}")
        return
    problems = workspace.read_problems(TRAIN)
    if source == "imported":
        yield Finding("rationales", f"`molsaki import` brings them for {len(problems)} problems; none is there yet")
        return
    writer = recipe.teacher.writer
    assert writer is not None, "the recipe's check asks for one"
    if isinstance(writer, ServerSpec):
        yield Finding("rationales", f"{writer.name} writes for {len(problems)} problems")
        check = check_server(writer)
        said = f"{check.says} (after {check.seconds:.1f} s)"
        yield Finding("rationales", said, "plain" if check.answers else "error")
        return
    model = _look_at(recipe, writer)
    settings = recipe.rationales
    template = render_template(model.tokenizer, workspace.template("teacher"))
    prompts = _lengths(
        model.tokenizer, [template.prompt(problem.text) for problem in problems], template.special_tokens
    )
    context = model.context(None)
    yield Finding("rationales", f"{writer.name} writes for {len(problems)} problems, {_of_tokens(prompts)} a prompt")
    crowded = sum(length + settings.max_new_tokens > context for length in prompts)
    if crowded:
        text = f"{crowded} prompts leave less than max_new_tokens of {writer.name}'s {context} tokens"
        yield Finding("rationales", text, "warning")
    yield from _needs(
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
            yield Finding("rationales", f"{without} questions have no number; their rationales may have")


def _attention(workspace: Workspace, machine: list[Machine]) -> Iterator[Finding]:
    recipe = workspace.recipe
    spec = recipe.teacher.attending
    views = pipeline.views(workspace)
    if not views or spec is None:
        yield Finding("attention", "no method reads it")
        return
    from molsaki.encoding.encode import require_offsets

    model = _look_at(recipe, spec)
    require_offsets(model.tokenizer, end=False)
    yield _chat_keeps(workspace, model)
    memory = reading_memory(model.outline, spec.dtype, max(recipe.attention.batch_tokens, 1))
    for view in views:
        tokens = yield from _view(workspace, spec, model, view)
        seconds = partial(reading_seconds, model.outline, tokens)
        yield from _needs(view.title, machine, memory, seconds)
    if wants_next_tokens(workspace):
        yield _next_tokens(workspace, model)


def _next_tokens(workspace: Workspace, model: _Model) -> Finding:
    """How large the store of the teacher's next tokens is, a number for each token of each rationale times a few."""
    from molsaki.store.next_tokens import TEMPERATURES, row_shape

    if workspace.run.stage_done(pipeline.GENERATE) is None:
        longest = workspace.recipe.rationales.max_new_tokens
        lengths, if_so = [longest] * len(workspace.read_problems(TRAIN)), f", if rationales have {longest} tokens"
    else:
        texts = workspace.read_texts(TRAIN)[1].values()
        lengths, if_so = _lengths(model.tokenizer, [text.rationale for text in texts], special_tokens=False), ""
    top = min(workspace.recipe.logits.top, model.outline.text.vocab_size)
    marked = next_token_rules(workspace)[TEMPERATURES]
    size = BYTES["float32"] * sum(math.prod(row_shape(length + 1, top, marked)) for length in lengths)  # and its end
    return Finding(TOLD, f"the store has about {show_bytes(size)}, {top} likeliest at each token{if_so}")


def _view(workspace: Workspace, spec: ModelSpec, model: _Model, view: View) -> Generator[Finding, None, int]:
    """What one view of the teacher's attention reads, skips and stores; gives how many tokens are read."""
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
        tokens = sum(_lengths(model.tokenizer, [problem.text for problem in problems]))
        return tokens + len(problems) * recipe.rationales.max_new_tokens
    context = model.context(recipe.attention.max_length)
    _, texts = workspace.read_texts(TRAIN)
    prompt = reading_prompt(workspace, model.tokenizer)
    prepared, report = prepare_texts(model.tokenizer, list(texts.values()), prompt, context, view)
    lengths = [item.length for item in prepared]
    size = width * sum(item.size for item in prepared)
    yield Finding(view.title, f"{spec.name} reads {len(prepared)} texts of {_of_tokens(lengths)}; {context} fit")
    cut = report.notes.pop(CUT, 0)
    share = 100 * cut / max(1, len(prepared))
    yield Finding(view.title, f"{cut} are cut there ({share:.1f} %)", "warning" if cut else "plain")
    for reason, n in {**report.skipped, **report.notes}.items():
        yield Finding(view.title, f"{n} {reason}", "warning" if reason == NO_KEYS else "plain")
    each = f"{rows} heads of {layers} layers" if view.heads else f"{layers} layers"
    yield Finding(view.title, f"the store has {show_bytes(size)}, {each} in {recipe.attention.dtype}")
    return sum(lengths)


def _chat_keeps(workspace: Workspace, model: _Model) -> Finding:
    """Whether attention is read in the text that the model would have gone on writing."""
    template = workspace.template("teacher")
    if not template.is_chat:
        unused = ", and the tokenizer's chat template is not used" if model.tokenizer.chat_template else ""
        return Finding("attention", f"the prompt is plain text{unused}")
    if keeps_completions(model.tokenizer, template):
        return Finding("attention", "the chat template keeps the rationale as it was written")
    text = "the chat template does not keep a finished answer as it was written; attention is read behind its opening"
    return Finding("attention", f"{text} of the assistant's turn, where the model would have written it", "warning")


def _training(workspace: Workspace, machine: list[Machine]) -> Iterator[Finding]:
    from molsaki.encoding.encode import require_offsets
    from molsaki.encoding.prompts import PromptTemplate
    from molsaki.methods import METHODS, Task
    from molsaki.training import encode_examples

    recipe, settings = workspace.recipe, workspace.recipe.training
    model = _look_at(recipe, recipe.student)
    require_offsets(model.tokenizer)
    context = model.context(settings.max_length)
    if workspace.run.stage_done(pipeline.GENERATE) is None:
        prompt = workspace.template("explain")
        prompts = [prompt.prompt(problem.text) for problem in workspace.read_problems(TRAIN)]
        lengths = [length + recipe.rationales.max_new_tokens for length in _lengths(model.tokenizer, prompts)]
        over = sum(length > context for length in lengths)
        text = f"up to {over} rationales of {recipe.rationales.max_new_tokens} tokens would be cut; {context} fit"
        yield Finding("training", text, "warning" if over else "plain")
    else:
        problems, texts = workspace.read_texts(TRAIN)
        templates: dict[Task, PromptTemplate] = {
            "predict": workspace.template("predict"),
            "explain": workspace.template("explain"),
        }
        examples, report = encode_examples(model.tokenizer, problems, texts, templates, context)
        lengths = [len(example.sequences["explain"].input_ids) for example in examples]
        cut = report.notes.total() / max(1, len(examples))
        yield Finding("training", f"{len(examples)} examples of {_of_tokens(lengths)} to explain; {context} fit")
        level: Level = "warning" if cut else "plain"
        yield Finding("training", f"{report.notes.total()} rationales are cut there ({100 * cut:.1f} %)", level)
        for reason, n in report.skipped.items():
            yield Finding("training", f"{n} {reason}", "warning")
    mean = sum(lengths) / max(1, len(lengths))
    tasks = max(len(METHODS[method.name].tasks) for method in recipe.methods)
    students = len(recipe.methods) * len(recipe.seeds)
    tokens = int(settings.steps * settings.accumulation * settings.batch_size * tasks * mean)
    longest = settings.batch_size * tasks * max(lengths, default=1)
    checkpointing = settings.checkpointing
    yield Finding("training", f"{students} students of {model.outline.parameters / 1e6:.3g} million parameters")
    yield from _needs(
        "training",
        machine,
        training_memory(
            model.outline, min(longest, settings.batch_size * tasks * context), checkpointing=checkpointing
        ),
        lambda at: training_seconds(model.outline, tokens, at, checkpointing=checkpointing),
        "a student",
    )
    tested = {name: len(workspace.read_tests(name)) for name in workspace.test_names}
    evaluation = recipe.evaluation
    yield Finding("evaluation", f"each is tested on {', '.join(f'{n} {name}' for name, n in tested.items())}")
    rows = sum(tested.values())
    asked = {METHODS[method.name].answers_with for method in recipe.methods}
    bound = max(evaluation.bound_for(workspace.template(prompt)) for prompt in asked)
    yield from _needs(
        "evaluation",
        machine,
        0,
        lambda at: writing_seconds(model.outline, recipe.student.dtype, rows, evaluation.batch_size, bound, at),
        "a student",
    )


def _needs(
    about: str, machine: list[Machine], memory: int, seconds: Callable[[Machine], float], each: str = ""
) -> Iterator[Finding]:
    """Memory and time of a stage, with a warning where the memory is more than there is."""
    if not machine:
        return
    (here,) = machine
    per = f" {each}" if each else ""
    time = f"at least {show_seconds(seconds(here))}{per} here"
    if not memory:
        yield Finding(about, time)
        return
    tight = bool(here.memory) and memory > here.memory
    text = f"about {show_bytes(memory)} of memory{per}, {time}"
    yield Finding(
        about, f"{text}; there are {show_bytes(here.memory)}" if tight else text, "warning" if tight else "plain"
    )


def _look_at(recipe: Recipe, spec: ModelSpec) -> _Model:
    tokenizer = load_tokenizer(recipe, spec)
    return _Model(spec, tokenizer, outline_model(recipe, spec, tokenizer))


def _lengths(tokenizer: Any, texts: list[str], special_tokens: bool = True) -> list[int]:
    if not texts:
        return []
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=special_tokens, verbose=False)["input_ids"]]


def _of_tokens(lengths: list[int]) -> str:
    if not lengths:
        return "no tokens"
    ordered = sorted(lengths)
    high = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return f"{sum(ordered) / len(ordered):.0f} tokens (95 % up to {high}, the longest {ordered[-1]})"

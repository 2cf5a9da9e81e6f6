"""`molsaki doctor`: what a run of a recipe will read, skip, store and cost, before it starts.

The data stage, and the check of existing rationales, run for real in a temporary folder. Texts are tokenized with the
real tokenizers. Of models only the configuration is loaded, no weights. Errors are collected and reported together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from molsaki.attention import expected_layers
from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.counts import format_example, plural
from molsaki.encoding.chats import keeps_completions, render_template
from molsaki.encoding.encode import require_offsets
from molsaki.errors import MolsakiError
from molsaki.models.estimates import (
    Machine,
    probe_machine,
    reading_memory,
    reading_seconds,
    show_bytes,
    writing_seconds,
)
from molsaki.models.load import pick_device, quiet_libraries
from molsaki.records import Problem
from molsaki.spans.views import VIEWS
from molsaki.stages import pipeline
from molsaki.stages.attend import reading_prompt, store_limits
from molsaki.stages.check import open_workspace, precision_choice
from molsaki.stages.doctor_students import check_students
from molsaki.stages.findings import (
    Finding,
    Level,
    ModelOutline,
    count_tokens,
    describe_layers,
    describe_lengths,
    estimate_cost,
)
from molsaki.stages.kept import require_kept
from molsaki.stages.models_first import try_models
from molsaki.stages.signals import make_signal, needed_signals
from molsaki.stages.signals_hub import signals_folder
from molsaki.stages.take_signals import open_exported
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.exported_rows import Export
from molsaki.store.schema import row_bytes
from molsaki.teacher.served import check_server
from molsaki.teacher.store_sizes import over_limits

if TYPE_CHECKING:
    from molsaki.teacher.signals import ModelSizes, Signal


def diagnose(recipe: Recipe, print_line: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Check everything that a run of a recipe depends on.

    Args:
        recipe: a resolved recipe.
        print_line: called with the name of each check before it starts.
    """
    quiet_libraries()
    findings: list[Finding] = []
    with TemporaryDirectory() as folder:
        workspace = open_workspace(recipe, Path(folder) / "run")
        machine = probe_machine(pick_device(), "float32")
        checks: Mapping[str, Callable[[], Iterator[Finding]]] = {
            "models": lambda: _models(recipe),
            "machine": lambda: _machine(workspace, machine),
            "data": lambda: _data(workspace),
            "rationales": lambda: _rationales(workspace, machine),
            "teacher": lambda: _signals(workspace, machine),
            "training": lambda: check_students(workspace, machine),
        }
        for about, check in checks.items():
            print_line(about)
            try:
                findings += check()
            except (MolsakiError, OSError) as error:
                if not any(str(error) in finding.text for finding in findings):  # a model's error, found before
                    findings.append(Finding(about, str(error), "error"))
                if about == "data":
                    break  # the other checks need its problems
    return findings


def _models(recipe: Recipe) -> Iterator[Finding]:
    problems, notes = try_models(recipe)
    if not problems:
        yield Finding("models", "every model, tokenizer and prompt can be used; of models, the configuration was read")
    for problem in problems:
        yield Finding("models", problem, "error")
    for note in notes:
        yield Finding("models", note, "warning")


def _machine(workspace: Workspace, machine: Machine) -> Iterator[Finding]:
    text = f"{machine.device}, {show_bytes(machine.memory)} of memory" if machine.memory else machine.device
    yield Finding("machine", f"{text}, {machine.speed / 1e9:.0f} GFLOP/s in float32")
    choice = precision_choice(workspace)
    if choice is not None:
        yield Finding("machine", choice.describe())
    if workspace.recipe.tiny:
        yield Finding("machine", "--tiny: the figures are for small random models", "warning")


def _data(workspace: Workspace) -> Iterator[Finding]:
    for name, report in pipeline.load_data(workspace).items():
        level: Level = "plain" if report["kept"] else "error"
        yield Finding("data", f"{name}: {report['read']} rows, {report['kept']} used", level)
        for reason, n in {**report["skipped"], **report["notes"]}.items():
            yield Finding("data", f"{name}: {n} {reason}{format_example(report, reason)}")


def _rationales(workspace: Workspace, machine: Machine) -> Iterator[Finding]:
    recipe = workspace.recipe
    source = recipe.rationales.source
    if source in ("palm", "dataset", "file"):
        manifest = pipeline.generate(workspace)
        yield Finding("rationales", f"{manifest['kept']} of {manifest['problems']} kept")
        for reason, n in manifest["reasons"].items():
            if reason not in ("right", "given"):
                yield Finding("rationales", f"{n} not kept: {reason}")
        require_kept(workspace, manifest)
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
    workspace: Workspace, writer: ModelSpec, problems: list[Problem], machine: Machine
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
        reading_memory(model.outline, settings.batch_size * max(prompts, default=1)),
        lambda at: (
            reading_seconds(model.outline, settings.samples * sum(prompts), at)
            + writing_seconds(
                model.outline,
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


def _signals(workspace: Workspace, machine: Machine) -> Iterator[Finding]:
    """What is read of the teacher, in one forward pass per batch for all signals."""
    from molsaki.teacher.signals import ModelSizes

    recipe = workspace.recipe
    spec = recipe.teacher.attending
    signals = [make_signal(workspace, name) for name in needed_signals(recipe)]
    if signals and recipe.signals is not None:
        export = Export(signals_folder(recipe))
        for signal in signals:
            open_exported(workspace, export, signal)
        rows = f"not read; {plural(len(export.rows), 'row')} of exported signals, {', '.join(export.names())}"
        yield Finding("teacher", rows)
        return
    if not signals or spec is None:
        yield Finding("teacher", "not read, since no method compares it")
        return
    model = ModelOutline.load(recipe, spec)
    require_offsets(model.tokenizer, end=False)
    yield _chat_keeps(workspace, model)
    text = model.outline.text
    layers = expected_layers(model.outline.config)
    if any(signal.name in VIEWS for signal in signals):
        yield from describe_layers("teacher", recipe, layers)
    sizes = ModelSizes(layers, len(layers.numbers) * getattr(text, "num_attention_heads", 0), text.vocab_size)
    written = workspace.run.stage_done(pipeline.GENERATE) is not None
    tokens = yield from (_read_texts if written else _unwritten_texts)(workspace, spec, model, signals, sizes)
    memory = reading_memory(model.outline, max(recipe.attention.batch_tokens, 1))
    yield from estimate_cost("teacher", machine, memory, partial(reading_seconds, model.outline, tokens))


def _unwritten_texts(
    workspace: Workspace,
    _: ModelSpec,
    model: ModelOutline,
    signals: Sequence[Signal[Any]],
    sizes: ModelSizes,
) -> Generator[Finding, None, int]:
    """The approximate size of each store before the rationales exist. Returns the number of tokens to read."""
    problems, longest = workspace.read_problems(TRAIN), workspace.recipe.rationales.max_new_tokens
    for signal in signals:
        expected, of = signal.expected_sizes(longest)
        schema = signal.schema(sizes)
        size = show_bytes(row_bytes(schema, expected) * len(problems))
        text = f"the store has about {size}, {signal.describe(sizes)}, if rationales have {of}"
        yield Finding(signal.title, text)
        rows = {problem.id: expected for problem in problems}
        if problem := over_limits(signal.title, schema, rows, store_limits(workspace.recipe)):
            yield Finding(signal.title, problem, "warning")
    return sum(count_tokens(model.tokenizer, [problem.text for problem in problems])) + len(problems) * longest


def _read_texts(
    workspace: Workspace,
    spec: ModelSpec,
    model: ModelOutline,
    signals: Sequence[Signal[Any]],
    sizes: ModelSizes,
) -> Generator[Finding, None, int]:
    """What is read, skipped and stored of the rationales. Returns the number of tokens to read."""
    from molsaki.teacher.read_signals import prepare_texts
    from molsaki.teacher.signals import CUT

    context = model.context(workspace.recipe.attention.max_length)
    _, texts = workspace.read_texts(TRAIN)
    prompt = reading_prompt(workspace, model.tokenizer)
    prepared, reports = prepare_texts(model.tokenizer, list(texts.values()), prompt, context, signals)
    lengths = [item.length for item in prepared]
    yield Finding("teacher", f"{spec.name} reads {len(prepared)} texts of {describe_lengths(lengths)}; {context} fit")
    cut = sum(item.encoded.cut_tokens > 0 for item in prepared)
    share = 100 * cut / max(1, len(prepared))
    yield Finding("teacher", f"{cut} are cut there ({share:.1f} %)", "warning" if cut else "plain")
    for signal in signals:
        report, schema = reports[signal.name], signal.schema(sizes)
        for reason, n in report.skipped.items():
            yield Finding(signal.title, f"{n} {reason}", "warning")
        for note, n in report.notes.items():
            if note != CUT:
                yield Finding(signal.title, f"{n} {note}")
        rows = {x.text.id: signal.sizes(x.items[signal.name]) for x in prepared if signal.name in x.items}
        size = show_bytes(sum(row_bytes(schema, some) for some in rows.values()))
        yield Finding(signal.title, f"the store has {size}, {signal.describe(sizes)}")
        if problem := over_limits(signal.title, schema, rows, store_limits(workspace.recipe)):
            yield Finding(signal.title, problem, "error")
    return sum(lengths)


def _chat_keeps(workspace: Workspace, model: ModelOutline) -> Finding:
    """Whether the text in which attention is read equals the text that the model generates."""
    template = workspace.template("teacher")
    if not template.is_chat:
        unused = ", and the tokenizer's chat template is not used" if model.tokenizer.chat_template else ""
        return Finding("teacher", f"the prompt is plain text{unused}")
    if keeps_completions(model.tokenizer, template):
        return Finding("teacher", "the chat template does not change the rationale")
    text = "the chat template changes a finished answer; attention is read after the opening of the assistant's turn"
    return Finding("teacher", f"{text}, where the model generates it", "warning")

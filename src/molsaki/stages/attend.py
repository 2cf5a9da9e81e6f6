"""The attend stage: from a run's rationales to the signals of its teacher, and the check of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.distributed import is_main, on_main_process, process_count
from molsaki.encoding.chats import describe_prompt, render_template
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import RecipeError
from molsaki.stages.workspace import ATTEND, TRAIN, Workspace
from molsaki.store.fingerprints import differences, fingerprint
from molsaki.teacher.store_sizes import StoreLimits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.config.recipe import Recipe
    from molsaki.store.shards import StoredRow
    from molsaki.store.signal_writer import SignalWriter
    from molsaki.store.verify import RowCheck, StoreReport
    from molsaki.teacher.signals import ModelSizes, PreparedSignals, Signal

Progress = Callable[[int, int], None]
READ_AS = "prompt as read"
"""The part of a fingerprint that says what text the prompt came to, with the model's chat template if it is a chat."""


@dataclass(frozen=True, slots=True)
class SignalCheck:
    """What a look at every row of one signal of a run found.

    Attributes:
        title: of the signal.
        store: of the store itself, with the problems of its rows.
        problems: what does not fit the run: other rules than the recipe's, rows that are missing.
        waiting: how many rationales are still to be read; 0 when the signal has been read.
    """

    title: str
    store: StoreReport
    problems: tuple[str, ...]
    waiting: int

    @property
    def ok(self) -> bool:
        """Whether all that is there is right."""
        return self.store.ok and not self.problems


def reading_prompt(workspace: Workspace, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """The prompt that the teacher is read in, as text: the one that this model would be given to write from.

    Raises:
        TokenizerError: the prompt is a chat, and the tokenizer has no chat template that renders it.
    """
    return render_template(tokenizer, workspace.template("teacher"))


def _read_as(workspace: Workspace, tokenizer: PreTrainedTokenizerBase) -> str:
    """The reading prompt for fingerprints: without the day of the run."""
    return describe_prompt(tokenizer, workspace.template("teacher"))


def read_teacher(
    workspace: Workspace, names: Sequence[str], progress: Progress | None = None
) -> dict[str, Mapping[str, Any]]:
    """Read some signals of the teacher on the rationales that were kept; all processes of the job take part.

    Args:
        workspace: the run.
        names: the signals.
        progress: called with how many texts are done and how many there are.

    Returns:
        What the stage's manifest says of every signal that the run has, by name; the same in every process.
    """
    from molsaki.encoding.encode import context_length
    from molsaki.models.load import load_placed_model, load_tokenizer, quiet_libraries
    from molsaki.spans.views import VIEWS
    from molsaki.stages.compare_original import OriginalComparison
    from molsaki.stages.signals import make_signal, reader_of
    from molsaki.teacher.read_signals import model_sizes, read_signals

    quiet_libraries()
    recipe = workspace.recipe
    if recipe.signals is not None:
        from molsaki.stages.take_signals import take_signals

        return _finish(workspace, on_main_process(lambda: take_signals(workspace, names)))
    spec = reader_of(workspace)
    if spec.device_map is not None and process_count() > 1:
        raise RecipeError(
            f"Expected a teacher on one device where several processes read it, each with a copy of its own; got "
            f"device_map {spec.device_map!r}. All would fill the same devices; start one process, or leave it out."
        )
    tokenizer = load_tokenizer(recipe, spec)
    prompt = reading_prompt(workspace, tokenizer)
    _, texts = workspace.read_texts(TRAIN)
    comparison = OriginalComparison(workspace, names, prompt, list(texts.values()))
    model = load_placed_model(recipe, spec, tokenizer, seed=1).eval()
    max_length = context_length(tokenizer, model.config, recipe.attention.max_length)
    signals = [make_signal(workspace, name) for name in names]
    sizes = model_sizes(model, signals)
    if recipe.attention.layers == "every":
        sizes.layers.require_every("teacher")
    made_from = _made_from(workspace, model, tokenizer, max_length)
    compared = comparison.entry(spec, model, tokenizer)
    with ExitStack() as opened:
        writers = _open_writers(workspace, signals, sizes, made_from, opened)
        reports = read_signals(
            model,
            tokenizer,
            list(texts.values()),
            prompt,
            signals,
            writers,
            sizes=sizes,
            max_length=max_length,
            batch_tokens=recipe.attention.batch_tokens,
            chunk=recipe.attention.chunk_tokens,
            limits=store_limits(recipe),
            progress=progress,
        )
    read = {
        signal.name: {
            "title": signal.title,
            "row": signal.describe(sizes),
            **reports[signal.name].to_dict(),
            **layers_left_out(signal, sizes),
            **(compared if signal.name in VIEWS else {}),
            "fingerprint": _fingerprint(workspace, signal, sizes, made_from),
        }
        for signal in signals
    }
    return _finish(workspace, read)


def store_limits(recipe: Recipe) -> StoreLimits:
    """The largest rows and stores that a recipe allows."""
    return StoreLimits(recipe.attention.max_row_mb, recipe.attention.max_store_gb)


def _made_from(
    workspace: Workspace,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> dict[str, Any]:
    """What decides all signals and is known once the teacher is loaded, for fingerprints."""
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.load import model_fingerprint
    from molsaki.stages.signals import reader_of

    spec = reader_of(workspace)
    return {
        "weights": model_fingerprint(spec, model),
        "revision": str(getattr(model.config, "_commit_hash", None) or spec.revision or "none"),
        "precision": str(model.dtype).removeprefix("torch.") + (f", {spec.quantize}" if spec.quantize else ""),
        "tokenizer": tokenizer_hash(tokenizer),
        "max_length": max_length,
        READ_AS: _read_as(workspace, tokenizer),
    }


def _fingerprint(
    workspace: Workspace, signal: Signal[Any], sizes: ModelSizes, made_from: Mapping[str, Any]
) -> dict[str, str]:
    from molsaki.stages.signals import signal_rules

    return fingerprint(**signal_rules(workspace, signal), **made_from, **signal.read_from(sizes))


def layers_left_out(signal: Signal[Any], sizes: ModelSizes) -> dict[str, list[str]]:
    """The layers of the teacher that have no attention to read, by name, for the manifest; empty if all are read."""
    return {"layers_left_out": list(sizes.layers.others)} if signal.read_from(sizes) else {}


def _open_writers(
    workspace: Workspace,
    signals: Sequence[Signal[Any]],
    sizes: ModelSizes,
    made_from: Mapping[str, Any],
    opened: ExitStack,
) -> dict[str, SignalWriter] | None:
    """The store of each signal, in process 0; None in the others. An error in process 0 is one in all."""
    from molsaki.store.signal_writer import SignalWriter

    writers: dict[str, SignalWriter] = {}

    def open_all() -> None:
        for signal in signals:
            folder, fingerprint = workspace.run.path(signal.folder), _fingerprint(workspace, signal, sizes, made_from)
            writers[signal.name] = opened.enter_context(SignalWriter(folder, fingerprint, signal.schema(sizes)))

    on_main_process(open_all)
    return writers if is_main() else None


def _finish(workspace: Workspace, read: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Add what was read to the stage's manifest, in process 0; gives the whole to all."""
    from molsaki.stages.signals import SIGNALS, read_so_far

    def finish() -> dict[str, Mapping[str, Any]]:
        stored = {name: {**entry, "stored": _stored(workspace, name)} for name, entry in read.items()}
        together = {**read_so_far(workspace), **stored}
        ordered = {name: together[name] for name in SIGNALS if name in together}
        workspace.run.finish_stage(ATTEND, {"signals": ordered})
        return ordered

    return on_main_process(finish)


def _stored(workspace: Workspace, name: str) -> dict[str, Any]:
    """The size of a store, and the error of its attention against the full rows."""
    from molsaki.spans.views import VIEWS
    from molsaki.store.attention_rows import stored_error
    from molsaki.store.schema import row_bytes
    from molsaki.store.signal_reader import SignalStore
    from molsaki.teacher.signals import folder_of

    store = SignalStore(workspace.run.path(folder_of(name)))
    each = [row_bytes(store.schema, store.sizes(row_id)) for row_id in store.ids()]
    size = {"bytes": sum(each), "largest_row_bytes": max(each, default=0)}
    if name not in VIEWS:
        return size
    largest, mean = stored_error(store)
    return {**size, "max_error": largest, "mean_error": mean}


def check_signal(workspace: Workspace, name: str) -> SignalCheck:
    """Open every shard of a run's store of one signal and check every row of it.

    A row must have the numbers that were written, be of a rationale of this run and of its text, have the sizes that
    this text has, and be what the signal's `check` expects.

    Raises:
        DataError: there is no store.
    """
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.load import load_tokenizer
    from molsaki.stages.signals import make_signal, read_so_far, reader_of, signal_rules
    from molsaki.store.shards import read_header
    from molsaki.store.verify import verify_store
    from molsaki.teacher.read_signals import prepare_texts

    signal = make_signal(workspace, name)
    folder = workspace.run.path(signal.folder)
    found = read_header(folder).fingerprint
    if workspace.recipe.signals is not None:
        return _check_taken(workspace, signal, found)
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(workspace.recipe, reader_of(workspace))
    prompt = reading_prompt(workspace, tokenizer)
    rules = signal_rules(workspace, signal)
    wanted = fingerprint(**rules, tokenizer=tokenizer_hash(tokenizer), **{READ_AS: _read_as(workspace, tokenizer)})
    other = differences({part: found.get(part, "nothing") for part in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    longest = found.get("max_length", "")
    _, texts = workspace.read_texts(TRAIN)
    max_length = int(longest) if longest.isdecimal() else 1 << 30
    prepared, _ = prepare_texts(tokenizer, list(texts.values()), prompt, max_length, [signal])
    by_id = {item.text.id: item for item in prepared}
    seen: set[str] = set()
    report = verify_store(folder, row_check(signal, by_id, seen))
    missing = [row_id for row_id in by_id if row_id not in seen]
    was_read = name in read_so_far(workspace)
    if was_read and missing and report.ok:
        problems.append(
            f"{len(missing)} rows are missing though they were read, {missing[0]!r} for one; run the stage again"
        )
    return SignalCheck(signal.title, report, tuple(problems), 0 if was_read else len(missing))


def _check_taken(workspace: Workspace, signal: Signal[Any], found: Mapping[str, str]) -> SignalCheck:
    """The check of signals that were taken from an export: there is no teacher to prepare texts for."""
    from molsaki.stages.signals import read_so_far, signal_rules
    from molsaki.stages.take_signals import check_taken

    wanted = fingerprint(**signal_rules(workspace, signal))
    other = differences({part: found.get(part, "nothing") for part in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    _, texts = workspace.read_texts(TRAIN)
    report = check_taken(workspace.run.path(signal.folder), signal.name, texts)
    expected = read_so_far(workspace).get(signal.name, {}).get("kept", report.rows)
    if report.rows < expected and report.ok:
        problems.append(f"{expected - report.rows} rows are missing though they were taken; run the stage again")
    return SignalCheck(signal.title, report, tuple(problems), 0)


def row_check(signal: Signal[Any], by_id: Mapping[str, PreparedSignals], seen: set[str]) -> RowCheck:
    """Says what is wrong with a row of a signal.

    Args:
        signal: the signal.
        by_id: the texts that can be read, with their tokens.
        seen: gets the ids of the rows that were checked.
    """

    def check(row: StoredRow, tensors: Mapping[str, Tensor]) -> list[str]:
        seen.add(row.id)
        text = by_id.get(row.id)
        if text is None:
            return ["it is of no rationale of this run that can be read"]
        wrong = []
        if row.text_hash != text.text.text_hash:
            wrong.append("it was read on other text (the hashes differ)")
        item = text.items[signal.name]
        if dict(row.sizes) != signal.sizes(item):
            return [*wrong, f"it has the sizes {dict(row.sizes)}, its text has {signal.sizes(item)}"]
        return [*wrong, *signal.check(item, tensors)]

    return check

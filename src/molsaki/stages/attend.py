"""The attend stage: from a run's rationales to the signals of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.counts import Progress
from molsaki.distributed import is_main, on_main_process, process_count
from molsaki.encoding.chats import describe_prompt, render_template
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import RecipeError
from molsaki.stages.workspace import ATTEND, TRAIN, Workspace
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.teacher.store_sizes import StoreLimits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.config.model_spec import ModelSpec
    from molsaki.config.recipe import Recipe
    from molsaki.spans.text import Text
    from molsaki.stages.compare_original import OriginalComparison
    from molsaki.store.signal_writer import SignalWriter
    from molsaki.teacher.signals import ModelSizes, Signal

READ_AS = "prompt as read"
"""The part of a fingerprint that says what text the prompt came to, with the model's chat template if it is a chat."""


def reading_prompt(workspace: Workspace, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """The prompt that the teacher is read in, as text: the one that this model would be given to write from.

    Raises:
        TokenizerError: the prompt is a chat, and the tokenizer has no chat template that renders it.
    """
    return render_template(tokenizer, workspace.template("teacher"))


def read_as(workspace: Workspace, tokenizer: PreTrainedTokenizerBase) -> str:
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
    from molsaki.spans.views import VIEWS
    from molsaki.stages.signals import make_signal
    from molsaki.teacher.read_signals import model_sizes, read_signals

    recipe = workspace.recipe
    if recipe.signals is not None:
        from molsaki.stages.take_signals import take_signals

        return _finish(workspace, on_main_process(lambda: take_signals(workspace, names)))
    reader = _load_reader(workspace, names)
    signals = [make_signal(workspace, name) for name in names]
    sizes = model_sizes(reader.model, signals)
    if recipe.attention.layers == "every":
        sizes.layers.require_every("teacher")
    made_from = _made_from(workspace, reader)
    compared = reader.compare()
    with ExitStack() as opened:
        writers = _open_writers(workspace, signals, sizes, made_from, opened)
        reports = read_signals(
            reader.model,
            reader.tokenizer,
            reader.texts,
            reader.prompt,
            signals,
            writers,
            sizes=sizes,
            max_length=reader.max_length,
            batch_tokens=recipe.attention.batch_tokens,
            chunk=recipe.attention.chunk_tokens,
            limits=store_limits(recipe),
            progress=progress,
        )
    entries = {
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
    return _finish(workspace, entries)


def measure_original(workspace: Workspace, done: dict[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Measure the error of a teacher that was read before, if the recipe names another original by now.

    The teacher and the original are loaded and read on a few texts; the stored rows stay as they are.

    Args:
        workspace: the run.
        done: what the stage's manifest says of every signal.

    Returns:
        The same with the measured error.

    Raises:
        ArtefactError: the teacher is not the one whose signals are stored.
    """
    from molsaki.stages.compare_original import is_measured

    names = [name for name, entry in done.items() if not is_measured(workspace.recipe, name, entry)]
    if not names:
        return done
    reader = _load_reader(workspace, names)
    wanted = fingerprint(**_made_from(workspace, reader))
    found = {part: done[names[0]]["fingerprint"].get(part) for part in wanted}
    require_same(found, wanted, f"the teacher that was read in {workspace.run.folder}")
    compared = reader.compare()
    measured: dict[str, Mapping[str, Any]] = {
        name: {**entry, **(compared if name in names else {})} for name, entry in done.items()
    }
    on_main_process(lambda: workspace.run.finish_stage(ATTEND, {"signals": measured}))
    return measured


@dataclass(frozen=True, slots=True)
class _Reader:
    """The teacher that is read, and what it is read on.

    Attributes:
        spec: as the recipe names it.
        model: the model, on its device.
        tokenizer: its tokenizer.
        prompt: the prompt, as text.
        texts: the run's texts.
        max_length: longer sequences are cut.
        original: the comparison with the model that it was quantised from.
    """

    spec: ModelSpec
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: PromptTemplate
    texts: Sequence[Text]
    max_length: int
    original: OriginalComparison

    def compare(self) -> dict[str, Any]:
        """What the manifest says of the error of a quantised reader."""
        return self.original.entry(self.spec, self.model, self.tokenizer)


def _load_reader(workspace: Workspace, names: Sequence[str]) -> _Reader:
    """Load the teacher, after its original was read and freed.

    Raises:
        RecipeError: the teacher is on several devices, and several processes would load it.
    """
    from molsaki.encoding.encode import context_length
    from molsaki.models.load import load_placed_model, load_tokenizer, quiet_libraries
    from molsaki.stages.compare_original import OriginalComparison
    from molsaki.stages.signals import reader_of

    quiet_libraries()
    recipe, spec = workspace.recipe, reader_of(workspace)
    if spec.device_map is not None and process_count() > 1:
        raise RecipeError(
            f"Expected a teacher on one device where several processes read it, each with a copy of its own; got "
            f"device_map {spec.device_map!r}. All would fill the same devices; start one process, or leave it out."
        )
    tokenizer = load_tokenizer(recipe, spec)
    prompt = reading_prompt(workspace, tokenizer)
    texts = list(workspace.read_texts(TRAIN)[1].values())
    comparison = OriginalComparison(workspace, names, prompt, texts)
    model = load_placed_model(recipe, spec, tokenizer, seed=1).eval()
    max_length = context_length(tokenizer, model.config, recipe.attention.max_length)
    return _Reader(spec, model, tokenizer, prompt, texts, max_length, comparison)


def store_limits(recipe: Recipe) -> StoreLimits:
    """The largest rows and stores that a recipe allows."""
    return StoreLimits(recipe.attention.max_row_mb, recipe.attention.max_store_gb)


def _made_from(workspace: Workspace, reader: _Reader) -> dict[str, Any]:
    """What decides all signals and is known once the teacher is loaded, for fingerprints."""
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.fingerprint import model_fingerprint

    spec, model = reader.spec, reader.model
    return {
        "weights": model_fingerprint(spec.name, model),
        "revision": str(getattr(model.config, "_commit_hash", None) or spec.revision or "none"),
        "precision": str(model.dtype).removeprefix("torch.") + (f", {spec.quantize}" if spec.quantize else ""),
        "tokenizer": tokenizer_hash(reader.tokenizer),
        "max_length": reader.max_length,
        READ_AS: read_as(workspace, reader.tokenizer),
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

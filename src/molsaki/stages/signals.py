"""Which signals of its teacher a run needs, which it has, and how they are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.encoding.encode import tokenizer_hash
from molsaki.encoding.token_map import TokenMap
from molsaki.errors import ArtefactError, RecipeError
from molsaki.models.load import load_tokenizer, tokenizer_at
from molsaki.spans.views import STEPS, VIEWS
from molsaki.stages.workspace import ATTEND, GENERATE, Workspace
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.next_tokens import TEMPERATURES, temperature_names
from molsaki.store.shards import STORE_NAME, count_rows, read_header
from molsaki.store.signal_reader import SignalStore
from molsaki.teacher.collect_attention import LayerMix
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_logits import NEXT_TOKENS as NEXT_TOKENS
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.signals import Signal, folder_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEACHER_TOKENIZER = "teacher-tokenizer"
"""The folder of a run with the tokenizer of exported next tokens."""
PROMPT = "prompt"
"""The template that exported signals were read in, in the attend stage's manifest of a run that took them."""
SIGNALS = (*VIEWS, NEXT_TOKENS)
"""All signals by name, in the order in which they are stored."""


def method_signals(spec: MethodSpec) -> dict[str, float | None]:
    """The signals that a method compares, by name: next tokens with their temperature, views of attention with None."""
    terms = spec.terms
    found: dict[str, float | None] = {}
    if terms.attention is not None:
        found[terms.attention.view.name] = None
    if terms.next_tokens is not None:
        found[NEXT_TOKENS] = terms.next_tokens.temperature
    return found


def view_of(spec: MethodSpec) -> str | None:
    """The view of attention that a method compares; None if it compares none."""
    return next((name for name in method_signals(spec) if name in VIEWS), None)


def needed_signals(recipe: Recipe) -> list[str]:
    """The names of the signals that a recipe's methods compare, each once."""
    needed = {name for spec in recipe.methods for name in method_signals(spec)}
    return [name for name in SIGNALS if name in needed]


def signals_to_read(recipe: Recipe) -> list[str]:
    """The signals that `molsaki attend` reads: those that methods compare, or steps and keys if none compares any."""
    return needed_signals(recipe) or [STEPS.name]


def make_signal(workspace: Workspace, name: str) -> Signal[Any]:
    """A signal as a run's recipe has it.

    Next tokens that were read at more temperatures than the recipe's methods ask for serve them too.
    """
    recipe, settings = workspace.recipe, workspace.recipe.attention
    if name == NEXT_TOKENS:
        kept, wanted = _kept_temperatures(workspace.run.folder), _wanted_temperatures(recipe)
        return NextTokenSignal(recipe.logits.top, kept if set(wanted) <= set(kept) else wanted)
    mix = LayerMix(settings.temperature, settings.layer_change) if settings.layers == "mixed" else None
    return AttentionSignal(VIEWS[name], recipe.keys, settings.dtype, mix, settings.top)


def signal_rules(workspace: Workspace, signal: Signal[Any]) -> dict[str, str]:
    """What decides a signal's rows and is known without loading the teacher.

    The teacher and prompt of exported signals are not the recipe's to decide.
    """
    if workspace.recipe.signals is not None:
        return {"signal": signal.name, **signal.rules()}
    reader = workspace.recipe.teacher.attending
    return {
        "signal": signal.name,
        "teacher": "none" if reader is None else reader.name,
        "prompt": str(workspace.template("teacher")),
        **signal.rules(),
    }


def reader_of(workspace: Workspace) -> ModelSpec:
    """The model that signals are read of.

    Raises:
        RecipeError: the recipe names none.
    """
    spec = workspace.recipe.teacher.attending
    if spec is None:
        raise RecipeError(
            "Expected `teacher.reader` or `teacher.writer` in a recipe with a method that compares something of the "
            "teacher; got neither. Name the model that is read."
        )
    return spec


# ---- what a run has ----


def read_so_far(workspace: Workspace) -> dict[str, Mapping[str, Any]]:
    """What the attend stage says of each signal that it has read, by name.

    Raises:
        ArtefactError: the stage was run by an earlier version.
    """
    manifest = workspace.stage(ATTEND)
    if manifest and not isinstance(manifest.get("signals"), dict):
        raise ArtefactError(
            f"Expected the signals that were read of the teacher in {workspace.run.stage_path(ATTEND)}; an earlier "
            "version wrote it, whose stores are not read. Nothing was done; delete that file and the folders "
            "`attention*` and `next_tokens` beside it, and run `molsaki attend` with this recipe and directory, which "
            "reads the teacher again."
        )
    return dict(manifest.get("signals", {}))


def unread_rows(workspace: Workspace, name: str) -> int:
    """How many rows are to be read though a signal was read: lost ones, and those of new rationales.

    No row is read for it, only the index of the store.

    Raises:
        ArtefactError: a shard is damaged.
    """
    entry = read_so_far(workspace).get(name)
    if entry is None:
        return 0
    lost = max(0, entry["kept"] - count_rows(workspace.run.path(folder_of(name))))
    return int(lost + max(0, workspace.stage(GENERATE).get("kept", 0) - entry["read"]))


def require_temperatures(folder: Path, recipe: Recipe) -> None:
    """Refuse a recipe with a method at a temperature that the next tokens of a run were not read at.

    Args:
        folder: the run's directory.
        recipe: what the run is to become.

    Raises:
        ArtefactError: there is such a method.
    """
    if NEXT_TOKENS not in needed_signals(recipe):
        return
    kept, wanted = _kept_temperatures(folder), _wanted_temperatures(recipe)
    if kept and not set(wanted) <= set(kept):
        raise ArtefactError(
            f"Expected methods at the temperatures that the teacher's next tokens of {folder} were read at, "
            f"{', '.join(kept)}; got {', '.join(wanted)}. Others cannot be computed from the likeliest tokens alone, "
            "and the run was left as it is; choose another directory for a recipe with all of these temperatures."
        )


def _wanted_temperatures(recipe: Recipe) -> tuple[str, ...]:
    temperatures = [method_signals(spec).get(NEXT_TOKENS) for spec in recipe.methods]
    return temperature_names([temperature for temperature in temperatures if temperature is not None])


def _kept_temperatures(folder: Path) -> tuple[str, ...]:
    """The temperatures of the next tokens of a run; none without a store."""
    store = folder / folder_of(NEXT_TOKENS)
    if not (store / STORE_NAME).is_file():
        return ()
    return tuple(read_header(store).fingerprint.get(TEMPERATURES, "").split())


# ---- opening ----


def open_store(workspace: Workspace, name: str, **more: str) -> SignalStore:
    """The store of a signal, checked against what this run would have read.

    Args:
        workspace: the run.
        name: the signal's name.
        **more: what its fingerprint must say beside the signal's rules.

    Raises:
        ArtefactError: it was made from something else, or is damaged.
        DataError: there is no store.
    """
    signal = make_signal(workspace, name)
    store = SignalStore(workspace.run.path(signal.folder))
    wanted = fingerprint(**signal_rules(workspace, signal), **more)
    found = {part: store.fingerprint.get(part, "nothing") for part in wanted}
    require_same(found, wanted, f"the store of the teacher's {signal.title} of this run")
    return store


def teacher_tokenizer(workspace: Workspace) -> PreTrainedTokenizerBase:
    """The tokenizer of a run's next tokens: of the model that is read, or what was taken with exported signals.

    Raises:
        RecipeError: the recipe names neither a model nor exported signals.
    """
    if workspace.recipe.signals is None:
        return load_tokenizer(workspace.recipe, reader_of(workspace))
    return tokenizer_at(str(workspace.run.path(TEACHER_TOKENIZER)))


def open_next_tokens(workspace: Workspace, student: PreTrainedTokenizerBase) -> tuple[SignalStore, TokenMap]:
    """The teacher's next tokens, and its tokens in the student's vocabulary; of the teacher, its tokenizer is loaded.

    Raises:
        ArtefactError: as `open_store`.
        DataError: as there.
        TokenizerError: the bytes of the tokens of one of the tokenizers are not known.
    """
    teacher = teacher_tokenizer(workspace)
    store = open_store(workspace, NEXT_TOKENS, tokenizer=tokenizer_hash(teacher))
    return store, TokenMap(teacher, student)

"""The attend stage's second store, where a method compares next tokens: made, proved, and opened for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.recipe import Recipe
from molsaki.errors import ArtefactError
from molsaki.methods import terms_of
from molsaki.spans.views import STEPS, View
from molsaki.stages.attend import READ_AS, AttentionCheck, made_on_main_process, reader_of, reading_prompt
from molsaki.stages.workspace import GENERATE, TRAIN, Workspace
from molsaki.store.fingerprints import differences, fingerprint, require_same

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.encoding.token_map import TokenMap
    from molsaki.store.next_tokens import NextTokenStore
    from molsaki.store.shards import StoredRow

Progress = Callable[[int, int], None]
FOLDER = "next_tokens"
TOLD = "next tokens"
"""Where the stage's manifest tells of them, once they are read."""
KEPT, VOCABULARY = "kept", "vocabulary"
"""The marks that say how many of the likeliest tokens a row has, and out of how many."""


def wants_next_tokens(workspace: Workspace) -> bool:
    """Whether any method of the recipe compares next tokens."""
    return any(terms_of(method.name, method.settings).next_tokens for method in workspace.recipe.methods)


def has_next_tokens(workspace: Workspace) -> bool:
    """Whether they have been read; a run may have got its first method that compares them after its attention."""
    return TOLD in (workspace.run.stage_done(STEPS.stage) or {})


def unread_rows(workspace: Workspace, view: View = STEPS) -> int:
    """How many rows are to be read though the stage of a view has finished: lost ones, and those of new rationales.

    Those of next tokens count too. No row is read for it, only the indices of the stores.

    Raises:
        ArtefactError: a shard is damaged.
    """
    from molsaki.store.shards import count_rows

    told = workspace.stage(view.stage)
    if not told:
        return 0
    unread: int = max(0, told["kept"] - count_rows(workspace.run.path(view.folder)))
    unread += max(0, workspace.stage(GENERATE).get("kept", 0) - told["read"])
    if TOLD in told and wants_next_tokens(workspace):
        unread += max(0, told[TOLD]["kept"] - count_rows(workspace.run.path(FOLDER)))
    return unread


def require_temperatures(folder: Path, recipe: Recipe) -> None:
    """Refuse a recipe with a method at a temperature that the next tokens of a run were not read at.

    Args:
        folder: the run's directory.
        recipe: what the run is to become.

    Raises:
        ArtefactError: there is such a method.
    """
    kept, wanted = _kept_temperatures(folder), _wanted_temperatures(recipe)
    if kept and not set(wanted) <= set(kept):
        raise ArtefactError(
            f"Expected methods at the temperatures that the teacher's next tokens of {folder} were read at, "
            f"{', '.join(kept)}; got {', '.join(wanted)}. Others cannot be computed from the likeliest tokens alone, "
            "and the run was left as it is; choose another directory for a recipe with all of these temperatures."
        )


def next_token_rules(workspace: Workspace) -> dict[str, str]:
    """What decides the teacher's next tokens and is known without loading the teacher.

    A store that was made with more temperatures than the recipe's methods ask for serves them too.
    """
    from molsaki.store.next_tokens import NEXT_TOKENS, ROWS, TEMPERATURES

    recipe = workspace.recipe
    attending = recipe.teacher.attending
    kept, wanted = _kept_temperatures(workspace.run.folder), _wanted_temperatures(recipe)
    return {
        ROWS: NEXT_TOKENS,
        "teacher": "none" if attending is None else attending.name,
        "prompt": str(workspace.template("teacher")),
        "top": str(recipe.logits.top),
        TEMPERATURES: " ".join(kept if set(wanted) <= set(kept) else wanted),
    }


def _wanted_temperatures(recipe: Recipe) -> list[str]:
    """The marks of all temperatures that the recipe's methods ask for; none without such a method."""
    from molsaki.store.next_tokens import temperature_marks

    needs = [terms_of(spec.name, spec.settings).next_tokens for spec in recipe.methods]
    temperatures = [need.temperature for need in needs if need is not None]
    return temperature_marks(temperatures).split() if temperatures else []


def _kept_temperatures(folder: Path) -> list[str]:
    """The marks of the temperatures that the store of a run was made with; none without a store."""
    from molsaki.store.next_tokens import TEMPERATURES
    from molsaki.store.shards import STORE_NAME, read_header

    if not (folder / FOLDER / STORE_NAME).is_file():
        return []
    return read_header(folder / FOLDER).fingerprint.get(TEMPERATURES, "").split()


def read_next_tokens(
    workspace: Workspace,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    made_from: Mapping[str, str],
    max_length: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Read the next tokens on the rationales that were kept; all processes of the job take part.

    Args:
        workspace: the run.
        model: the teacher, as its attention is read.
        tokenizer: its tokenizer.
        made_from: the marks of both.
        max_length: longer texts are cut, and counted.
        progress: called with how many texts are done and how many there are.

    Returns:
        What this part of the stage has to tell.
    """
    from molsaki.store.next_tokens import TEMPERATURES
    from molsaki.store.signal_writer import AttentionStoreWriter
    from molsaki.teacher.read_logits import extract_next_tokens

    rules = next_token_rules(workspace)
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    top = min(workspace.recipe.logits.top, vocabulary)
    marks = fingerprint(**rules, **made_from, **{KEPT: top, VOCABULARY: vocabulary})
    folder = workspace.run.path(FOLDER)
    writer = made_on_main_process(lambda: AttentionStoreWriter(folder, marks, "float32"))
    _, texts = workspace.read_texts(TRAIN)
    try:
        report = extract_next_tokens(
            model,
            tokenizer,
            list(texts.values()),
            reading_prompt(workspace, tokenizer),
            writer,
            top=top,
            marked=rules[TEMPERATURES],
            max_length=max_length,
            batch_tokens=workspace.recipe.attention.batch_tokens,
            progress=progress,
        )
    finally:
        if writer is not None:
            writer.close()
    return report.to_dict() | {"fingerprint": marks}


def open_next_tokens(workspace: Workspace, student: PreTrainedTokenizerBase) -> tuple[NextTokenStore, TokenMap]:
    """The teacher's next tokens, checked against what this run would have read, and its tokens in the student's.

    Of the teacher only the tokenizer is loaded.
    """
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.encoding.token_map import TokenMap
    from molsaki.models.load import load_tokenizer
    from molsaki.store.next_tokens import NextTokenStore

    store = NextTokenStore(workspace.run.path(FOLDER))
    teacher = load_tokenizer(workspace.recipe, reader_of(workspace))
    wanted = fingerprint(**next_token_rules(workspace), tokenizer=tokenizer_hash(teacher))
    found = {name: store.fingerprint.get(name, "nothing") for name in wanted}
    require_same(found, wanted, "the store of the teacher's next tokens of this run")
    return store, TokenMap(teacher, student)


def check_next_tokens(workspace: Workspace) -> AttentionCheck:
    """Open every shard of a run's store of next tokens and prove every row of it.

    A row must have the values that were written, be of a rationale of this run and of its text, have its tokens, and
    at each of them different tokens of the teacher's vocabulary with probabilities that add up to at most 1.

    Raises:
        DataError: there is no store.
    """
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.load import load_tokenizer
    from molsaki.store.next_tokens import TEMPERATURES, next_token_problems, row_shape
    from molsaki.store.shards import read_header
    from molsaki.store.verify import verify_store
    from molsaki.teacher.read_logits import prepare_rationales

    folder = workspace.run.path(FOLDER)
    found = read_header(folder).fingerprint
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(workspace.recipe, reader_of(workspace))
    prompt = reading_prompt(workspace, tokenizer)
    rules = next_token_rules(workspace)
    wanted = fingerprint(**rules, tokenizer=tokenizer_hash(tokenizer), **{READ_AS: str(prompt)})
    other = differences({name: found.get(name, "nothing") for name in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    longest, top, vocabulary = (
        int(found.get(name, "")) if found.get(name, "").isdecimal() else 1 << 30
        for name in ("max_length", KEPT, VOCABULARY)
    )
    _, texts = workspace.read_texts(TRAIN)
    prepared, _ = prepare_rationales(tokenizer, list(texts.values()), prompt, longest)
    by_id = {item.text.id: item for item in prepared}
    seen: set[str] = set()

    def check_completion(row: StoredRow, values: Tensor) -> Sequence[str]:
        seen.add(row.id)
        item = by_id.get(row.id)
        if item is None:
            return ["it is of no rationale of this run that can be read"]
        wrong = [] if row.text_hash == item.text.text_hash else ["it was read on other text (the hashes differ)"]
        shape = row_shape(len(item.spans), top, rules[TEMPERATURES])
        if row.shape != shape:
            return [*wrong, f"it has the shape {row.shape}, its text and the store's marks make it {shape}"]
        return [*wrong, *next_token_problems(values, item.spans, top, vocabulary)]

    report = verify_store(folder, check_completion)
    missing = [row_id for row_id in by_id if row_id not in seen]
    finished = has_next_tokens(workspace)
    if finished and missing and report.ok:
        problems.append(
            f"{len(missing)} rows are missing though the stage has finished, {missing[0]!r} for one; run it again"
        )
    return AttentionCheck(report, tuple(problems), 0 if finished else len(missing))

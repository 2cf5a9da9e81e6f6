"""The attend stage: from a run's rationales to its attention store, and the proof that what is stored is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec
from molsaki.distributed import broadcast_json, is_main, on_main_process, process_count
from molsaki.encoding.chats import render_template
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import RecipeError
from molsaki.spans.views import STEPS, View
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.fingerprints import differences, fingerprint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from molsaki.store.shards import StoredRow
    from molsaki.store.verify import StoreReport
    from molsaki.teacher.read_attention import PreparedText

Progress = Callable[[int, int], None]
READ_AS = "prompt as read"
"""The mark of a store that says what text the prompt came to, with the model's chat template if it is a chat."""
ROUNDING = 1e-2
"""How far above its bound a sum of weights may lie, relative to it: weights are rounded to 8 bits in bfloat16."""


@dataclass(frozen=True, slots=True)
class AttentionCheck:
    """What a look at every row of a run's attention found.

    Attributes:
        store: of the store itself, with the problems of its rows.
        problems: what does not fit the run: other rules than the recipe's, rows that are missing.
        waiting: how many rationales are still to be read; 0 when the stage has finished.
    """

    store: StoreReport
    problems: tuple[str, ...]
    waiting: int

    @property
    def ok(self) -> bool:
        """Whether all that is there is right."""
        return self.store.ok and not self.problems


def reader_of(workspace: Workspace) -> ModelSpec:
    """The model whose attention is read.

    Raises:
        RecipeError: the recipe names none.
    """
    spec = workspace.recipe.teacher.attending
    if spec is None:
        raise RecipeError(
            "Expected `teacher.reader` or `teacher.writer` in a recipe with a method that reads attention; got "
            "neither. Name the model whose attention is read."
        )
    return spec


def attention_rules(workspace: Workspace, view: View = STEPS) -> dict[str, str]:
    """What decides the teacher's attention in a view and is known without loading the teacher."""
    recipe = workspace.recipe
    attending = recipe.teacher.attending
    settings = recipe.attention
    mixed = f"mixed by Eq. 4, temperature {settings.temperature:g}, {settings.layer_change} change"
    return {
        "teacher": "none" if attending is None else attending.name,
        "prompt": str(workspace.template("teacher")),
        **view.rules(recipe.keys),
        **({"layers": mixed} if settings.layers == "mixed" else {}),
    }


def reading_prompt(workspace: Workspace, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """The prompt that attention is read in, as text: the one that this model would be given to write from.

    Raises:
        TokenizerError: the prompt is a chat, and the tokenizer has no chat template that renders it.
    """
    return render_template(tokenizer, workspace.template("teacher"))


def read_teacher(workspace: Workspace, progress: Progress | None = None, view: View = STEPS) -> dict[str, Any]:
    """Read a view of the teacher's attention on the rationales that were kept; all processes of the job take part.

    Returns:
        The stage's manifest, in every process.
    """
    from molsaki.encoding.encode import context_length, require_offsets, tokenizer_hash
    from molsaki.models.load import load_placed_model, load_tokenizer, model_fingerprint, quiet_libraries
    from molsaki.stages.next_tokens import TOLD, read_next_tokens, wants_next_tokens
    from molsaki.store.signal_writer import AttentionStoreWriter
    from molsaki.teacher.read_attention import LayerMix, extract_attention, head_counts

    quiet_libraries()
    recipe = workspace.recipe
    spec = reader_of(workspace)
    if spec.device_map is not None and process_count() > 1:
        raise RecipeError(
            f"Expected a teacher on one device where several processes read it, each with a copy of its own; got "
            f"device_map {spec.device_map!r}. All would fill the same devices; start one process, or leave it out."
        )
    tokenizer = load_tokenizer(recipe, spec)
    require_offsets(tokenizer, end=False)
    prompt = reading_prompt(workspace, tokenizer)
    model = load_placed_model(recipe, spec, tokenizer, seed=1).eval()
    max_length = context_length(tokenizer, model.config, recipe.attention.max_length)
    made_from = fingerprint(
        weights=model_fingerprint(spec, model),
        revision=str(getattr(model.config, "_commit_hash", None) or spec.revision or "none"),
        precision=str(model.dtype).removeprefix("torch."),
        tokenizer=tokenizer_hash(tokenizer),
        max_length=max_length,
        **{READ_AS: str(prompt)},
    )
    marks = fingerprint(**attention_rules(workspace, view), **made_from)
    folder = workspace.run.path(view.folder)
    writer = made_on_main_process(lambda: AttentionStoreWriter(folder, marks, recipe.attention.dtype))
    _, texts = workspace.read_texts(TRAIN)
    mixed = LayerMix(recipe.attention.temperature, recipe.attention.layer_change == "mean")
    try:
        report = extract_attention(
            model,
            tokenizer,
            list(texts.values()),
            prompt,
            writer,
            max_length=max_length,
            batch_tokens=recipe.attention.batch_tokens,
            mix=mixed if recipe.attention.layers == "mixed" else None,
            view=view,
            progress=progress,
        )
    finally:
        if writer is not None:
            writer.close()
    layers = model.config.get_text_config().num_hidden_layers
    manifest = report.to_dict() | {"fingerprint": marks, "layers": layers, "stored": recipe.attention.layers}
    if view.heads:
        manifest["heads"] = sum(head_counts(model))
    if view is STEPS and wants_next_tokens(workspace):
        manifest[TOLD] = read_next_tokens(workspace, model, tokenizer, made_from, max_length, progress)

    def finish() -> None:
        workspace.run.finish_stage(view.stage, manifest)

    on_main_process(finish)
    shared: dict[str, Any] = broadcast_json(manifest)
    return shared


def made_on_main_process(make: Callable[[], Any]) -> Any:
    """What `make` gives, in process 0; None in the others. An error in process 0 is one in all."""
    made: list[Any] = []
    on_main_process(lambda: made.append(make()))
    return made[0] if is_main() else None


def check_attention(workspace: Workspace, view: View = STEPS) -> AttentionCheck:
    """Open every shard of a run's store of one view and prove every row of it.

    A row must have the values that were written, be of a rationale of this run and of its text, have its steps and
    keys, be finite and nowhere negative, and 0 where the teacher had no token. A step's sum over keys is at most its
    number of tokens, in every layer or head, since the weights of each token add up to at most 1.

    Raises:
        DataError: there is no store.
    """
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.load import load_tokenizer
    from molsaki.store.shards import read_header
    from molsaki.store.verify import verify_store
    from molsaki.teacher.read_attention import prepare_texts

    folder = workspace.run.path(view.folder)
    found = read_header(folder).fingerprint
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(workspace.recipe, reader_of(workspace))
    prompt = reading_prompt(workspace, tokenizer)
    rules = attention_rules(workspace, view)
    wanted = fingerprint(**rules, tokenizer=tokenizer_hash(tokenizer), **{READ_AS: str(prompt)})
    other = differences({name: found.get(name, "nothing") for name in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    _, texts = workspace.read_texts(TRAIN)
    longest = found.get("max_length", "")
    max_length = int(longest) if longest.isdecimal() else 1 << 30
    prepared, _ = prepare_texts(tokenizer, list(texts.values()), prompt, max_length, view)
    by_id = {item.text.id: item for item in prepared}
    seen: set[str] = set()
    manifest = workspace.run.stage_done(view.stage)
    layers: int | None = None
    if manifest is not None:
        layers = 1 if manifest.get("stored") == "mixed" else int(manifest.get("heads", manifest["layers"]))

    def check_completion(row: StoredRow, values_LSK: Tensor) -> Sequence[str]:
        seen.add(row.id)
        item = by_id.get(row.id)
        if item is None:
            return ["it is of no rationale of this run that can be read"]
        return row_misfits(row, values_LSK, item, layers)

    report = verify_store(folder, check_completion)
    missing = [row_id for row_id in by_id if row_id not in seen]
    if manifest is not None and missing and report.ok:
        problems.append(
            f"{len(missing)} rows are missing though the stage has finished, {missing[0]!r} for one; run it again"
        )
    return AttentionCheck(report, tuple(problems), len(missing) if manifest is None else 0)


def row_misfits(row: StoredRow, values_LSK: Tensor, item: PreparedText, layers: int | None) -> list[str]:
    """What is wrong with a stored row, given the text that it is of.

    Args:
        row: its line of the index.
        values_LSK: its values.
        item: the text with the teacher's tokens.
        layers: how many layers, or heads of all layers, it should have; None where that is not known.
    """
    import torch

    tokens = item.tokens
    wrong: list[str] = []
    if row.text_hash != item.text.text_hash:
        wrong.append("it was read on other text (the hashes differ)")
    expected = (layers or row.shape[0], tokens.n_steps, tokens.n_keys)
    if row.shape != expected:
        return [*wrong, f"it has the shape {row.shape}, its text has {expected} layers, steps and keys"]
    missing = (row.missing_steps, row.missing_keys)
    if missing != (tokens.missing_steps, tokens.missing_keys):
        wrong.append(f"it lacks the steps and keys {missing}, its text {tokens.missing_steps, tokens.missing_keys}")
    if row.step_tokens and row.step_tokens != tokens.tokens_of_steps:
        wrong.append(f"its steps have {row.step_tokens} tokens, those of its text {tokens.tokens_of_steps}")
    values_LSK = values_LSK.float()
    if float(values_LSK.min()) < 0:
        wrong.append(f"it has a negative weight, {float(values_LSK.min()):.3g}")
    unread = float(values_LSK[:, list(tokens.missing_steps)].abs().sum() if tokens.missing_steps else 0)
    unread += float(values_LSK[:, :, list(tokens.missing_keys)].abs().sum() if tokens.missing_keys else 0)
    if unread:
        wrong.append("it has weights where the teacher had no token")
    counts = torch.tensor(tokens.tokens_of_steps)
    excess_LS = values_LSK.sum(2) - counts * (1 + ROUNDING)
    if float(excess_LS.max()) > 0:
        layer, step = divmod(int(excess_LS.argmax()), tokens.n_steps)
        wrong.append(
            f"layer {layer}, step {step} has {float(values_LSK[layer, step].sum()):.4g} in all, more than its "
            f"{int(counts[step])} tokens can give"
        )
    return wrong

"""The layer weights of a trained student's router, on given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from molsaki.errors import InputError
from molsaki.methods import METHODS
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.stages.signals import view_of
from molsaki.stages.workspace import Workspace
from molsaki.teacher.read_attention import prepare_text, read_batch

if TYPE_CHECKING:
    from molsaki.analysis.text_attention import Encoder, Floats

MAX_TEXTS = 24
"""Texts of a set whose layer weights are computed; their mean needs no more."""
BATCH_SIZE = 8


def router_weights(
    workspace: Workspace, pair: tuple[str, int], model: Any, tokenizer: Any, texts: Sequence[Text], encode: Encoder
) -> dict[str, Floats]:
    """Layer weights [L] of the first `MAX_TEXTS` texts by id; empty for a student without a router.

    If a router weighs each head, the weight of a layer is the sum over its heads. A router that was trained on
    rationale and answer in one sequence reads them here without the answer's sentence.

    Args:
        workspace: the run.
        pair: label and seed of the student.
        model: the student.
        tokenizer: its tokenizer.
        texts: the texts.
        encode: encodes a question and a rationale in the student's prompt.

    Raises:
        InputError: the file of the method's weights is damaged.
    """
    import torch

    method = _load_method(workspace, pair, model)
    if method is None:
        return {}
    report = RowReport()
    prepared = (prepare_text(text, encode(text.question, text.rationale), report) for text in texts[:MAX_TEXTS])
    items = [item for item in prepared if item is not None]
    weights_by_id: dict[str, Floats] = {}
    with eval_mode(model), torch.inference_mode():
        for start in range(0, len(items), BATCH_SIZE):
            batch = items[start : start + BATCH_SIZE]
            columns, width = [item.tokens.key_of_token for item in batch], max(item.tokens.n_keys for item in batch)
            reading = read_batch(model, tokenizer, batch, columns, width, values=True)
            lengths = torch.tensor([len(item.encoded.input_ids) for item in batch], device=model.device)
            mask_BT = torch.arange(int(lengths.max()), device=model.device)[None] < lengths[:, None]
            weights_BL = method.router.by_layer(method.router(reading.values, mask_BT)).float().cpu().numpy()
            weights_by_id |= {
                item.text.id: np.asarray(row, dtype=np.float64) for item, row in zip(batch, weights_BL, strict=True)
            }
    return weights_by_id


def _load_method(workspace: Workspace, pair: tuple[str, int], model: Any) -> Any:
    """The method of a student with its trained router; None without a router."""
    import safetensors.torch

    from molsaki.training import make_method
    from molsaki.training.checkpoints import METHOD_WEIGHTS

    spec = workspace.method(pair[0])
    path = workspace.student(*pair) / METHOD_WEIGHTS
    if view_of(spec) is None or not path.is_file():
        return None
    try:
        weights = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"Expected the weights of the method in {path}; the file is damaged ({error}). The layer weights of the "
            "router cannot be computed. Delete the student's folder and train it again, or delete this file."
        ) from error
    if not any(name.startswith("router.") for name in weights):
        return None
    teacher_layers = len(weights["teacher_logits"]) if "teacher_logits" in weights else 0
    method = make_method(METHODS[spec.name], METHODS[spec.name].Settings(**spec.settings), model, teacher_layers)
    method.load_state_dict(weights)
    return method.to(model.device).eval()

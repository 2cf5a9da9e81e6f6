"""The weights that a trained student's router gives its layers, on problems outside training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from molsaki.errors import InputError
from molsaki.methods import METHODS, terms_of
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.stages.workspace import Workspace
from molsaki.teacher.read_attention import prepare_text, read_batch

if TYPE_CHECKING:
    from molsaki.analysis.looks import Encoder, Floats

ROWS = 24
"""Texts of each set; a mean of layer weights needs no more."""
BATCH = 8


def router_weights(
    workspace: Workspace, pair: tuple[str, int], model: Any, tokenizer: Any, texts: Sequence[Text], encode: Encoder
) -> dict[str, Floats]:
    """Layer weights [L] of the first `ROWS` texts by id; nothing for a student without one, or whose was not kept.

    Where a router weighs each head, a layer's weight is the sum of its heads'.

    Raises:
        InputError: the method's weights are cut or malformed.
    """
    import safetensors.torch
    import torch

    from molsaki.training import make_method
    from molsaki.training.checkpoints import METHOD_WEIGHTS

    spec = workspace.method(pair[0])
    path = workspace.student(*pair) / METHOD_WEIGHTS
    if terms_of(spec.name, spec.settings).attention is None or not path.is_file():
        return {}
    try:
        own = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"Expected the method's weights beside a student in {path}; they are cut or malformed ({error}). Where the "
            "router looked is lost; delete the student's folder and train it again, or delete this file alone."
        ) from error
    if not any(name.startswith("router.") for name in own):
        return {}
    teacher_layers = len(own["teacher_logits"]) if "teacher_logits" in own else 0
    method = make_method(METHODS[spec.name], METHODS[spec.name].Settings(**spec.settings), model, teacher_layers)
    method.load_state_dict(own)
    method = method.to(model.device).eval()
    router: Any = method.router
    report = RowReport()
    made = (prepare_text(text, encode(text.question, text.rationale), report) for text in texts[:ROWS])
    items = [item for item in made if item is not None]
    found: dict[str, Floats] = {}
    with eval_mode(model), torch.inference_mode():
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            columns, width = [item.tokens.key_of_token for item in batch], max(item.tokens.n_keys for item in batch)
            reading = read_batch(model, tokenizer, batch, columns, width, values=True)
            lengths = torch.tensor([len(item.encoded.input_ids) for item in batch], device=model.device)
            mask_BT = torch.arange(int(lengths.max()), device=model.device)[None] < lengths[:, None]
            weights_BL = router.by_layer(router(reading.values, mask_BT)).float().cpu().numpy()
            found |= {
                item.text.id: np.asarray(row, dtype=np.float64) for item, row in zip(batch, weights_BL, strict=True)
            }
    return found

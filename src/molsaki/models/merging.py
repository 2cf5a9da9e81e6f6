"""A student's adapter merged into its base, as a model that needs neither."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.attention import find_model
from molsaki.distributed import process_count
from molsaki.models.adapters import MERGED_FROM, merge_adapter
from molsaki.models.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from molsaki.models.load import model_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def write_merged(student: Any, folder: Path, dtype: str) -> None:
    """Write a whole model into the directory that a student's adapter was saved in.

    The adapter moves into the folder `adapter` of the directory. The sums are those of `model_at` on the adapter, so
    both give the same answers.

    Args:
        student: the PeftModel; it is merged in place, on the CPU, and cannot be trained any more.
        folder: the directory.
        dtype: the precision that the base of a quantised student is loaded in, from its own files.
    """
    beside = folder / MERGED_FROM
    beside.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        (folder / name).rename(beside / name)
    shutil.copy(folder / "generation_config.json", beside)
    (folder / "README.md").unlink(missing_ok=True)  # peft's, of the adapter
    # Quantised weights would round the update, and a sharded base has no whole weights to add it to.
    from_files = getattr(find_model(student), "is_quantized", False) or process_count() > 1
    merged: PreTrainedModel = model_at(str(beside), dtype=dtype) if from_files else merge_adapter(student.to("cpu"))
    merged.config.use_cache = True
    merged.save_pretrained(folder)

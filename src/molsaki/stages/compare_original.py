"""The attention of a quantised reader against that of the model it was made from, for the attend stage's manifest."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec, is_gguf
from molsaki.config.recipe import Recipe
from molsaki.distributed import on_main_process
from molsaki.encoding.prompts import PromptTemplate
from molsaki.models.fingerprint import model_fingerprint
from molsaki.models.load import load_placed_model, load_tokenizer
from molsaki.spans.text import Text
from molsaki.spans.views import VIEWS
from molsaki.stages.workspace import Workspace
from molsaki.teacher.attention_error import SampleReading, attention_error, pick_sample, read_sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ERROR = "attention_error"
"""The key of a signal's entry in the manifest, and of an export's `teacher`."""
NOT_MEASURED = "not measured: the reader is quantised, and the recipe names no teacher.original"


def is_measured(recipe: Recipe, name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a signal that was read has no error to measure, or one against the recipe's original.

    Args:
        recipe: the recipe.
        name: the signal's name.
        entry: what the manifest says of it.
    """
    original = recipe.teacher.original
    if original is None or name not in VIEWS:
        return True
    error = entry.get(ERROR)
    if not isinstance(error, dict) or error["original"] != original.name:
        return False
    return recipe.tiny or error["precision"] == original.dtype


class OriginalComparison:
    """Reads the original on a few texts when it is made, and compares the reader with it later.

    Only process 0 loads the original, and lets go of it before the reader is loaded.

    Args:
        workspace: the run.
        names: the signals that are to be read.
        prompt: the prompt that the teacher is read in, as text.
        texts: the run's texts.
    """

    def __init__(
        self, workspace: Workspace, names: Sequence[str], prompt: PromptTemplate, texts: Sequence[Text]
    ) -> None:
        self._recipe, self._prompt = workspace.recipe, prompt
        self._texts = pick_sample(texts)
        self._of: dict[str, str] = {}
        self._found: SampleReading | None = None
        self._spec = self._recipe.teacher.original if any(name in VIEWS for name in names) else None
        if self._spec is not None:
            on_main_process(self._read_original)

    def entry(self, spec: ModelSpec, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """What the manifest says of the reader's error; empty for a reader that is not quantised and not compared.

        Raises:
            InputError: the original has other layers than the reader.
        """
        if self._spec is None:
            quantised = spec.quantize is not None or is_gguf(spec.name) or getattr(model, "is_quantized", False)
            return {ERROR: NOT_MEASURED} if quantised and not self._recipe.tiny else {}
        return {ERROR: on_main_process(lambda: self._compare(model, tokenizer))}

    def _read_original(self) -> None:
        assert self._spec is not None
        tokenizer = load_tokenizer(self._recipe, self._spec)
        model = load_placed_model(self._recipe, self._spec, tokenizer, seed=1)
        self._found = self._read(model, tokenizer)
        precision = str(model.dtype).removeprefix("torch.")
        self._of = {
            "original": self._spec.name,
            "weights": model_fingerprint(self._spec.name, model),
            "precision": precision,
        }
        del model
        gc.collect()
        _empty_cache()

    def _compare(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        assert self._found is not None
        return {**self._of, **attention_error(self._found, self._read(model, tokenizer))}

    def _read(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> SampleReading:
        settings = self._recipe.attention
        return read_sample(
            model,
            tokenizer,
            self._texts,
            self._prompt,
            self._recipe.keys,
            max_length=settings.max_length,
            chunk=settings.chunk_tokens,
        )


def _empty_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""The former name of two other methods, kept for one version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from molsaki.methods.attention_loss import Preset
from molsaki.methods.molsaki import MoLSAKI, MoLSAKISettings
from molsaki.methods.terms import LayerChange, Weight


class MoLSAKIWordsSettings(MoLSAKISettings):
    """Settings of the deprecated method `molsaki-words`: those of `molsaki` with `rows: words`, with other defaults.

    Attributes:
        rows: the "words" of the rationale.
        heads: a layer is the "mean" over its heads.
    """

    preset: Preset = "as-written"
    beta: Weight = 0.3
    columns: Literal["keys", "all", "all-but-keys"] = "all"
    kl_temperature: float = Field(default=1.0, gt=0)
    normalisation: Literal["softmax", "visible"] = "visible"
    layer_change: LayerChange = "mean"
    student_weights: Literal["router", "uniform"] = "uniform"
    gate: Literal["shared", "concatenated", "per-layer"] = "concatenated"
    router_norm: Literal["after", "before"] = "before"
    detach_values: bool = False
    rows: Literal["words"] = "words"
    heads: Literal["mean"] = "mean"

    @classmethod
    def preset_of(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Only the preset's values."""
        return cls.PRESETS.get(str(given.get("preset")), {})


class MoLSAKIWords(MoLSAKI):
    """Deprecated: every word of the rationale on all words, with the layers of both sides averaged.

    Its name promises a mixture of layers that it does not have: G divided by the number of words and words weights the
    teacher's layers all but equally, and the student's are averaged. `attention-map` with `teacher_layers: all` and
    `student_layers: all` is what it does; `molsaki` with `rows: words` has weights.
    """

    name = "molsaki-words"
    summary = "deprecated: attention-map over the mean of all layers"
    deprecated = (
        "use attention-map with teacher_layers: all, student_layers: all and beta: 0.3, which averages layers too, or "
        "molsaki with rows: words, which weights them"
    )
    Settings = MoLSAKIWordsSettings

"""molsaki: distil a large language model's reasoning into a small one, what it writes and where it looks.

The names below are the public ones. Each is imported when it is first used, so `import molsaki` costs nothing and
`molsaki.solve` needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from molsaki._version import __version__

if TYPE_CHECKING:
    from molsaki.answers.arithmetic import solve
    from molsaki.answers.parse import parse_answer
    from molsaki.attention import read_attention, stepwise_attention
    from molsaki.data import load_problems
    from molsaki.encoding.prompts import PromptTemplate
    from molsaki.methods.layers import mix_layers, teacher_layer_weights
    from molsaki.methods.losses import attention_loss, distillation_loss, visible_keys
    from molsaki.methods.router import LayerRouter
    from molsaki.records import Problem
    from molsaki.spans.align import align_spans
    from molsaki.spans.find import find_spans
    from molsaki.spans.text import Text
    from molsaki.spans.words import find_words
    from molsaki.stages.load_signals import load_signals
    from molsaki.training import DistillationTrainer, encode_examples, make_method
    from molsaki.training.loop import Signals, StepwiseAttentionLoss
    from molsaki.training.span_collator import SpanCollator

_HOME = {
    "DistillationTrainer": "molsaki.training",
    "LayerRouter": "molsaki.methods.router",
    "Problem": "molsaki.records",
    "PromptTemplate": "molsaki.encoding.prompts",
    "Signals": "molsaki.training.loop",
    "SpanCollator": "molsaki.training.span_collator",
    "StepwiseAttentionLoss": "molsaki.training.loop",
    "Text": "molsaki.spans.text",
    "align_spans": "molsaki.spans.align",
    "attention_loss": "molsaki.methods.losses",
    "distillation_loss": "molsaki.methods.losses",
    "encode_examples": "molsaki.training",
    "find_spans": "molsaki.spans.find",
    "find_words": "molsaki.spans.words",
    "load_problems": "molsaki.data",
    "load_signals": "molsaki.stages.load_signals",
    "make_method": "molsaki.training",
    "mix_layers": "molsaki.methods.layers",
    "parse_answer": "molsaki.answers.parse",
    "read_attention": "molsaki.attention",
    "solve": "molsaki.answers.arithmetic",
    "stepwise_attention": "molsaki.attention",
    "teacher_layer_weights": "molsaki.methods.layers",
    "visible_keys": "molsaki.methods.losses",
}

__all__ = [
    "DistillationTrainer",
    "LayerRouter",
    "Problem",
    "PromptTemplate",
    "Signals",
    "SpanCollator",
    "StepwiseAttentionLoss",
    "Text",
    "__version__",
    "align_spans",
    "attention_loss",
    "distillation_loss",
    "encode_examples",
    "find_spans",
    "find_words",
    "load_problems",
    "load_signals",
    "make_method",
    "mix_layers",
    "parse_answer",
    "read_attention",
    "solve",
    "stepwise_attention",
    "teacher_layer_weights",
    "visible_keys",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'molsaki' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""What models attend to while they reason, as functions for a notebook or a script.

    text_attention  one model's attention on one text, token by token, and the share of it on keys
    shift           does attention move onto the keys from step to step? compared with shuffled keys
    agreement       do two models attend to the same keys?
    correctness     does a measure of attention differ between wrong and right answers?
    layers          which layers attend to keys, and which have weight in the mixture
    causal          mask a key at a step: does the model write something else?

Attention shows where a model reads from. It does not show what the model does with what it reads, and a key with little
attention may have been read through other tokens. `causal` is the one function here that changes something and
compares what follows.
"""

from molsaki.analysis.agreement import Agreement, agreement, agreement_by_problem
from molsaki.analysis.causal import HiddenKey, hide_keys
from molsaki.analysis.correctness import ErrorGap, error_gap
from molsaki.analysis.layers import LayerProfile, layer_profile, layer_weights
from molsaki.analysis.shift import Estimate, Shift, StepShare, progressive_shift
from molsaki.analysis.text_attention import (
    StepFacts,
    TextAttention,
    read_text_attention,
    step_facts,
    student_encoder,
    teacher_encoder,
)

__all__ = [
    "Agreement",
    "ErrorGap",
    "Estimate",
    "HiddenKey",
    "LayerProfile",
    "Shift",
    "StepFacts",
    "StepShare",
    "TextAttention",
    "agreement",
    "agreement_by_problem",
    "error_gap",
    "hide_keys",
    "layer_profile",
    "layer_weights",
    "progressive_shift",
    "read_text_attention",
    "step_facts",
    "student_encoder",
    "teacher_encoder",
]

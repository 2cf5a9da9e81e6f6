"""Where models look while they reason, as functions that a notebook or a script can call.

    looks      one model's attention on one text, token by token, and what of it lies on keys
    shift      does attention move onto the keys as the steps go on? against shuffled keys
    agreement  do two models look at the same keys?
    rightness  and has that to do with being right?
    layers     which layers look at keys, and which weigh in the mixture
    causal     hide a key from attention at a step: does the model write something else?

Attention shows where a model reads from. It does not show what it does with what it reads, and a key that is
hardly looked at may still have been read by way of other tokens. `causal` is the one function here that changes
something and looks at what follows.
"""

from molsaki.analysis.agreement import Agreement, agreement, agreement_by_problem
from molsaki.analysis.causal import Hidden, hide_keys
from molsaki.analysis.layers import LayerProfile, layer_profile, layer_weights
from molsaki.analysis.looks import Look, StepFacts, read_looks, step_facts, student_encoder, teacher_encoder
from molsaki.analysis.rightness import WhenWrong, when_wrong
from molsaki.analysis.shift import Estimate, Shift, StepShare, progressive_shift

__all__ = [
    "Agreement",
    "Estimate",
    "Hidden",
    "LayerProfile",
    "Look",
    "Shift",
    "StepFacts",
    "StepShare",
    "WhenWrong",
    "agreement",
    "agreement_by_problem",
    "hide_keys",
    "layer_profile",
    "layer_weights",
    "progressive_shift",
    "read_looks",
    "step_facts",
    "student_encoder",
    "teacher_encoder",
    "when_wrong",
]

"""The methods of distillation, by name; one small file each.

A method says which sequences it trains on, whether it reads attention, and what its loss is. Data, seeds, steps
and everything else are the same for all, so what a comparison shows is the method.
"""

from __future__ import annotations

from molsaki.methods.attention_map import AttentionMap
from molsaki.methods.base import (
    TERM_OF_TASK,
    TERMS,
    AttentionChoice,
    AttentionPair,
    Method,
    MethodInputs,
    MethodSettings,
    NextTokenPair,
    OutputPair,
    StudentShape,
    Task,
)
from molsaki.methods.cot import ChainOfThought
from molsaki.methods.dss import DistillingStepByStep
from molsaki.methods.label_only import LabelOnly
from molsaki.methods.logits import Logits
from molsaki.methods.mmi import MaximisedMutualInformation
from molsaki.methods.molsaki import MoLSAKI
from molsaki.methods.molsaki_words import MoLSAKIWords
from molsaki.methods.single_layer import SingleLayer

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        LabelOnly,
        ChainOfThought,
        DistillingStepByStep,
        Logits,
        MaximisedMutualInformation,
        AttentionMap,
        SingleLayer,
        MoLSAKI,
        MoLSAKIWords,
    )
}

__all__ = [
    "METHODS",
    "TERMS",
    "TERM_OF_TASK",
    "AttentionChoice",
    "AttentionPair",
    "Method",
    "MethodInputs",
    "MethodSettings",
    "NextTokenPair",
    "OutputPair",
    "StudentShape",
    "Task",
]

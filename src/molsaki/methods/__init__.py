"""The methods of distillation, by name; one small file each.

A method declares the terms of its loss and what each of them needs. Data, seeds, steps and everything else are the
same for all methods of a recipe, so a comparison shows the method alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molsaki.methods.attention_map import AttentionMap
from molsaki.methods.base import Method
from molsaki.methods.cot import ChainOfThought
from molsaki.methods.dss import DistillingStepByStep
from molsaki.methods.inputs import AttentionPair, MethodInputs, NextTokenPair, OutputPair, StudentShape
from molsaki.methods.label_only import LabelOnly
from molsaki.methods.logits import Logits
from molsaki.methods.mmi import MaximisedMutualInformation
from molsaki.methods.molsaki import MoLSAKI
from molsaki.methods.molsaki_words import MoLSAKIWords
from molsaki.methods.single_layer import SingleLayer
from molsaki.methods.terms import (
    AttentionChoice,
    GradientShare,
    MethodSettings,
    NextTokens,
    PooledOutputs,
    Target,
    Task,
    Term,
    Terms,
)

METHODS: dict[str, type[Method[Any]]] = {
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


def terms_of(name: str, settings: Mapping[str, Any]) -> Terms:
    """The terms of a method's loss, by the method's name and its settings as in a recipe.

    Raises:
        pydantic.ValidationError: a setting is unknown or impossible.
    """
    method = METHODS[name]
    return method.terms_of(method.Settings(**settings))


__all__ = [
    "METHODS",
    "AttentionChoice",
    "AttentionPair",
    "GradientShare",
    "Method",
    "MethodInputs",
    "MethodSettings",
    "NextTokenPair",
    "NextTokens",
    "OutputPair",
    "PooledOutputs",
    "StudentShape",
    "Target",
    "Task",
    "Term",
    "Terms",
    "terms_of",
]

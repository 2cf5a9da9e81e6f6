"""The methods of distillation, by name; one small file each.

A method says which sequences it trains on, whether it reads attention, and what its loss is. Data, seeds, steps
and everything else are the same for all, so what a comparison shows is the method.
"""

from __future__ import annotations

from molsaki.methods.base import AttentionPair, Method, MethodSettings, Seen, StudentShape, Task
from molsaki.methods.dss import DistillingStepByStep
from molsaki.methods.label_only import LabelOnly
from molsaki.methods.molsaki import MoLSAKI

METHODS: dict[str, type[Method]] = {method.name: method for method in (LabelOnly, DistillingStepByStep, MoLSAKI)}

__all__ = ["METHODS", "AttentionPair", "Method", "MethodSettings", "Seen", "StudentShape", "Task"]

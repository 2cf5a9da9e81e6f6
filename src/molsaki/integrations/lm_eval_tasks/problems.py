"""Problems, prompts and scores of molsaki's tasks for lm-eval: those of `molsaki evaluate`.

The task files beside this one name its functions. lm-eval loads this file by its path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from molsaki.answers.parse import parse_label
from molsaki.answers.right import is_right
from molsaki.config.recipe import data_root
from molsaki.data import load_problems
from molsaki.encoding.prompts import PREDICT, PromptTemplate
from molsaki.records import Problem


def svamp(data: str | None = None, **_: Any) -> dict[str, Any]:
    """The 200 test problems of SVAMP as Distilling step-by-step splits it.

    Args:
        data: the data folder, by default MOLSAKI_DATA or as in a recipe. lm-eval passes it from `--metadata`.
    """
    return _problems("svamp-dss", data_root(data) / "svamp" / "dss", "test")


def singleeq(data: str | None = None, **_: Any) -> dict[str, Any]:
    """SingleEq; see `svamp` for the argument."""
    return _problems("singleeq", data_root(data) / "singleeq")


def asdiv(data: str | None = None, **_: Any) -> dict[str, Any]:
    """ASDiv; see `svamp` for the argument."""
    return _problems("asdiv", data_root(data) / "asdiv")


def prompt(doc: Mapping[str, Any]) -> str:
    """The prompt of a problem, as a student was trained on it: the recipes' default `predict` prompt."""
    return PromptTemplate.parse(PREDICT).prompt(_problem(doc).text)


def score_output(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 for a right answer, else 0."""
    problem = _problem(doc)
    return {"accuracy": float(is_right(parse_label(results[0], problem.choices), problem))}


def _problems(source: str, path: Path, split: str | None = None) -> dict[str, Any]:
    from datasets import Dataset

    found = load_problems(source, path=path, split=split).problems
    rows = [{"id": one.id, "label": one.label, "problem": json.dumps(one.to_dict())} for one in found]
    return {"test": Dataset.from_list(rows)}


def _problem(doc: Mapping[str, Any]) -> Problem:
    return Problem.from_dict(json.loads(doc["problem"]))

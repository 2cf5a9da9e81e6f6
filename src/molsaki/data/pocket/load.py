"""The pocket world's problems as data sets: made on the spot, the same every time.

Splits of `pocket-math` are `train`, `validation` and `test` (in-domain) and the out-of-domain test sets `templates`,
`numbers` and `chains`; `pocket-commonsense` has the first three. `train:7` draws other problems of the same kind,
with seed 7. Test problems never occur in training whatever the seed.
"""

from __future__ import annotations

from typing import cast, get_args

from molsaki.data.pocket.commonsense import pocket_commonsense
from molsaki.data.pocket.word_problems import SETTINGS, Pool, pocket_math
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem, RowReport

DEFAULT_ROWS = 300
POOLS: tuple[Pool, ...] = get_args(Pool)
OUT_OF_DOMAIN = tuple(name for name in SETTINGS if name != "in-domain")


def load_pocket_math(split: str, limit: int | None = None) -> LoadedProblems:
    """Make word problems.

    Args:
        split: train, validation, test, templates, numbers or chains, perhaps with `:seed`.
        limit: how many; 300 by default.

    Raises:
        DataError: there is no such split.
    """
    name, seed = _parse(split, (*POOLS, *OUT_OF_DOMAIN))
    setting, pool = (name, "test") if name in OUT_OF_DOMAIN else ("in-domain", name)
    return _all(list(pocket_math(setting, cast(Pool, pool), limit or DEFAULT_ROWS, seed)))


def load_pocket_commonsense(split: str, limit: int | None = None) -> LoadedProblems:
    """Make multiple-choice questions about the pocket world.

    Args:
        split: train, validation or test, perhaps with `:seed`.
        limit: how many; 300 by default.

    Raises:
        DataError: there is no such split.
    """
    name, seed = _parse(split, POOLS)
    return _all(list(pocket_commonsense(cast(Pool, name), limit or DEFAULT_ROWS, seed)))


def _parse(split: str, known: tuple[str, ...]) -> tuple[str, int]:
    name, _, seed = split.partition(":")
    if name not in known or not (seed or "0").isdecimal():
        raise DataError(
            f"Expected a split of {', '.join(known)}, perhaps with a seed as in {known[0]}:7; got {split!r}. "
            "No problem was made."
        )
    return name, int(seed or 0)


def _all(problems: list[Problem]) -> LoadedProblems:
    return LoadedProblems(tuple(problems), RowReport(read=len(problems), kept=len(problems)))

"""The pocket data sets: generated when they are loaded, the same every time.

The splits of `pocket-math` are `train`, `validation` and `test` (in-domain) and the out-of-domain test sets
`templates`, `numbers` and `chains`. `chains-train` and `chains-validation` are problems like `chains` to learn from.
`pocket-commonsense` has the first three. `train:7` has other problems of the same kind, drawn with seed 7. With any
seeds, no test problem is a training problem.
"""

from __future__ import annotations

from typing import cast, get_args

from molsaki.data.pocket.commonsense import pocket_commonsense
from molsaki.data.pocket.word_problems import SETTINGS, Pool, pocket_math
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem, RowReport

DEFAULT_ROWS = 300
POOLS: tuple[Pool, ...] = get_args(Pool)
IN_DOMAIN = "in-domain"
SETS: dict[str, tuple[str, Pool]] = {
    **{pool: (IN_DOMAIN, pool) for pool in POOLS},
    **{name: (name, "test") for name in SETTINGS if name != IN_DOMAIN},
    "chains-train": ("chains", "train"),
    "chains-validation": ("chains", "validation"),
}
"""The setting and the pool of each split of `pocket-math`."""


def load_pocket_math(split: str, limit: int | None = None) -> LoadedProblems:
    """Generate word problems.

    Args:
        split: a name in `SETS`, with an optional `:seed`.
        limit: number of problems.

    Raises:
        DataError: the split is unknown.
    """
    name, seed = _parse(split, tuple(SETS))
    setting, pool = SETS[name]
    return _loaded(list(pocket_math(setting, pool, limit or DEFAULT_ROWS, seed)))


def load_pocket_commonsense(split: str, limit: int | None = None) -> LoadedProblems:
    """Generate multiple-choice questions.

    Args:
        split: train, validation or test, with an optional `:seed`.
        limit: number of problems.

    Raises:
        DataError: the split is unknown.
    """
    name, seed = _parse(split, POOLS)
    return _loaded(list(pocket_commonsense(cast(Pool, name), limit or DEFAULT_ROWS, seed)))


def _parse(split: str, known: tuple[str, ...]) -> tuple[str, int]:
    name, _, seed = split.partition(":")
    if name not in known or not (seed or "0").isdecimal():
        raise DataError(
            f"Expected one of the splits {', '.join(known)}, or one with a seed such as {known[0]}:7; got {split!r}. "
            "No problems were generated. Change the split in the recipe."
        )
    return name, int(seed or 0)


def _loaded(problems: list[Problem]) -> LoadedProblems:
    return LoadedProblems(tuple(problems), RowReport(read=len(problems), kept=len(problems)))

"""The `data` of a recipe: its sets of problems."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from molsaki.config.parts import Count, Name, RecipePart

TRAIN, VALIDATION = "train", "validation"
"""The names of the sets that are not tested on, in files and folders of a run."""


class DataSpec(RecipePart):
    """One set of problems; see `molsaki.data.load_problems`.

    Attributes:
        source: the name of a data set, `table` for any file with columns, or `hub:owner/name[/config][@revision]`.
        path: the file or folder, relative to the data root.
        split: the split.
        columns: for `table` and `hub:`, the columns of the question, the answer and so on, and the form of the file;
            see `molsaki.data.table.load_table`.
        limit: use at most this many rows, the first ones.
    """

    source: str
    path: str | None = None
    split: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    limit: Count | None = None


class DataSettings(RecipePart):
    """Training, validation and test problems.

    Attributes:
        task: the name of the task in the results.
        root: the folder that relative paths start from; by default MOLSAKI_DATA, or the first folder that exists of
            `data` and `../shared/data`.
        train: the problems that get rationales and that students are trained on.
        validation: problems to validate students on during training.
        validation_rows: instead of `validation`, the number of training problems to hold out, by a hash of their text.
        tests: test sets by name; the first is the in-domain set.
        draws: with "shared", all seeds have the same problems. With "independent", each seed draws its own. Of
            generated data, each seed has training, validation and test problems of its own, `limit` of each set. Of
            other data, each seed trains on its own `rows` problems; the other sets stay the same.
        rows: number of training problems that each seed draws from those with a rationale, by a hash of seed and text.
    """

    task: str
    root: str | None = None
    train: DataSpec
    validation: DataSpec | None = None
    validation_rows: Annotated[int, Field(ge=0)] = 0
    tests: Annotated[dict[Name, DataSpec], Field(min_length=1)]
    draws: Literal["shared", "independent"] = "shared"
    rows: Count | None = None

    @property
    def specs(self) -> dict[str, DataSpec]:
        """All sets by their keys in a recipe."""
        specs = {f"data.tests.{name}": spec for name, spec in self.tests.items()} | {"data.train": self.train}
        return specs if self.validation is None else specs | {"data.validation": self.validation}

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation is not None and self.validation_rows:
            raise ValueError("expected `validation` or `validation_rows`; got both")
        return self

"""What a model answers to the problems of a test set, and how much of it is right.

Every prediction is kept as it was written, with how it was read; a score never says less than how many
answers could not be read and how many were cut off. `molsaki.answers.parse` reads them, as it does for what
teachers write.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from molsaki.answers.parse import is_right, parse_answer, parse_label
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import DataError, EvaluationError
from molsaki.evaluation.crossed import PairedDifference, paired_difference
from molsaki.evaluation.intervals import Interval, wilson_interval
from molsaki.models.decode import Completion, Progress, decode_batches
from molsaki.records import Problem, require_unique_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PredictionStatus = Literal["ok", "none", "cut", "ambiguous", "unparsable", "too_long"]
"""How an output was read: a status of `answers.ParsedAnswer`, or `too_long` where the prompt does not fit."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model wrote for one problem and how it was read.

    Attributes:
        id: the problem's.
        text_hash: of the problem's text, so that predictions of other questions are noticed.
        output: what the model wrote.
        status: how it was read.
        answer: the answer as it was written, or the chosen choice's text; empty where none could be read.
        correct: whether it is right.
        tokens: how many tokens were written.
        cut: the output did not end by itself.
    """

    id: str
    text_hash: str
    output: str
    status: PredictionStatus
    answer: str
    correct: bool
    tokens: int
    cut: bool

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` gives the same record back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            DataError: a field is missing or unknown.
        """
        try:
            return cls(**row)
        except TypeError as error:
            names = ", ".join(field.name for field in dataclasses.fields(cls))
            raise DataError(
                f"Expected a prediction with the fields {names}; got {sorted(row)}: {error}. The row cannot "
                f"be used; write it with Prediction.to_dict()."
            ) from error


@dataclass(frozen=True, slots=True)
class Score:
    """How the predictions for one test set came out; every one of the n is in exactly one of the counts.

    Attributes:
        correct: right answers.
        wrong: answers that could be read and are not right.
        unparsable: outputs that ended by themselves and hold no answer that can be read.
        cut: outputs that were cut off before an answer could be read.
        too_long: prompts that the model's context had no room for.
        interval: Wilson's 95 % interval of the accuracy.
    """

    correct: int
    wrong: int
    unparsable: int
    cut: int
    too_long: int
    interval: Interval

    @property
    def n(self) -> int:
        """How many predictions."""
        return self.correct + self.wrong + self.unparsable + self.cut + self.too_long

    @property
    def accuracy(self) -> float:
        """The share of all n that is right."""
        return self.correct / self.n

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"n": self.n, "accuracy": self.accuracy, **dataclasses.asdict(self)}


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    template: PromptTemplate,
    *,
    max_new_tokens: int = 64,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Iterator[list[Prediction]]:
    """Yield a model's predictions batch by batch, in the order of decoding; `in_order` restores the
    problems' own.

    Decoding is greedy, see `molsaki.models.decode`. Where the template's slot is a label, the output is read as
    a bare answer; where it is a rationale, with its answer or without, its answer sentence is read.

    Args:
        model: the student, or any causal language model.
        tokenizer: its tokenizer.
        problems: with ids of their own.
        template: `predict:`, `explain:` or `reason:`.
        max_new_tokens: the bound on one output.
        batch_size: how many problems at a time.
        progress: called after each batch with how many are done and how many there are.

    Raises:
        DataError: two problems share an id.
        EvaluationError: the template asks for key words, or a problem's own answer cannot be compared with.
    """
    if template.slot == "keywords":
        raise EvaluationError(
            f"Expected a template for labels or rationales, got {str(template)!r}, which asks for key words. "
            f"They have no right answer; evaluate with a template that ends in {{label}} or {{rationale}}."
        )
    require_unique_ids(problems)
    batches = decode_batches(
        model,
        tokenizer,
        [template.prompt(problem.text) for problem in problems],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    for batch in batches:
        yield [_read(problems[completion.index], completion, template) for completion in batch]


def in_order(predictions: Iterable[Prediction], problems: Sequence[Problem]) -> list[Prediction]:
    """Return one prediction per problem, in the problems' order.

    Raises:
        EvaluationError: a prediction is missing, superfluous, doubled or was made for other text.
    """
    found = {prediction.id: prediction for prediction in _without_doubles(predictions)}
    missing = [problem.id for problem in problems if problem.id not in found]
    superfluous = sorted(set(found) - {problem.id for problem in problems})
    if missing or superfluous:
        raise EvaluationError(
            f"Expected predictions for exactly the {len(problems)} problems given; {len(missing)} are "
            f"missing {missing[:3]} and {len(superfluous)} belong to other problems {superfluous[:3]}. They "
            f"cannot be scored; evaluate the model on these problems again."
        )
    other = [problem.id for problem in problems if found[problem.id].text_hash != problem.text_hash]
    if other:
        raise EvaluationError(
            f"Expected predictions for the problems as they are now; {len(other)} were made for other text, "
            f"{other[0]!r} the first. They say nothing about these problems; evaluate the model again."
        )
    return [found[problem.id] for problem in problems]


def score(predictions: Iterable[Prediction]) -> Score:
    """Count what became of the predictions of one model on one test set.

    Raises:
        EvaluationError: there are no predictions, or two for one problem.
    """
    counts = Counter(_outcome(prediction) for prediction in _without_doubles(predictions))
    n = counts.total()
    if n == 0:
        raise EvaluationError("Expected at least one prediction, got none. There is no accuracy of nothing.")
    return Score(
        correct=counts["correct"],
        wrong=counts["wrong"],
        unparsable=counts["unparsable"],
        cut=counts["cut"],
        too_long=counts["too_long"],
        interval=wilson_interval(counts["correct"], n),
    )


def result_row(task: str, split: str, method: str, seed: int, result: Score) -> dict[str, Any]:
    """One row of results.json."""
    return {
        "task": task,
        "split": split,
        "method": method,
        "seed": seed,
        "correct": result.correct,
        "n": result.n,
        "accuracy": result.accuracy,
    }


def compare(
    a: Sequence[Iterable[Prediction]], b: Sequence[Iterable[Prediction]], level: float = 0.95
) -> PairedDifference:
    """Compare two methods by their predictions for the same problems, one entry per seed, seeds in the same
    order.

    Raises:
        EvaluationError: there are no runs, or the runs are not of the same problems or not equally many.
    """
    runs = [_without_doubles(run) for run in (*a, *b)]
    if not a or len(a) != len(b):
        raise EvaluationError(
            f"Expected the predictions of the same seeds of both methods, got {len(a)} and {len(b)} runs. "
            f"They cannot be paired; leave out the seeds that only one of them has."
        )
    known = {(prediction.id, prediction.text_hash) for prediction in runs[0]}
    for run in runs[1:]:
        differing = known ^ {(prediction.id, prediction.text_hash) for prediction in run}
        if differing:
            raise EvaluationError(
                f"Expected all runs to be of the same problems; {len(differing)} differ in id or text, "
                f"{min(differing)[0]!r} among them. They cannot be paired; evaluate all on one test set."
            )
    table: npt.NDArray[np.float64] = np.array(
        [[prediction.correct for prediction in sorted(run, key=lambda p: p.id)] for run in runs], dtype=float
    )
    return paired_difference(table[: len(a)], table[len(a) :], level)


def _read(problem: Problem, completion: Completion, template: PromptTemplate) -> Prediction:
    if completion.too_long:
        return Prediction(problem.id, problem.text_hash, "", "too_long", "", False, 0, False)
    parse = parse_label if template.slot == "label" else parse_answer
    parsed = parse(completion.text, problem.choices)
    return Prediction(
        id=problem.id,
        text_hash=problem.text_hash,
        output=completion.text,
        status=parsed.status,
        answer=parsed.answer_text,
        correct=is_right(parsed, problem),
        tokens=completion.tokens,
        cut=completion.cut,
    )


def _outcome(prediction: Prediction) -> str:
    if prediction.correct:
        return "correct"
    if prediction.status == "ok":
        return "wrong"
    if prediction.status == "too_long":
        return "too_long"
    return "cut" if prediction.cut else "unparsable"


def _without_doubles(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The predictions as a list in which no problem has two."""
    rows = list(predictions)
    repeated = [row_id for row_id, n in Counter(row.id for row in rows).items() if n > 1]
    if repeated:
        raise EvaluationError(
            f"Expected one prediction per problem; {len(repeated)} problems have several, for example "
            f"{repeated[:3]}. They would count twice; score one model on one test set at a time."
        )
    return rows

"""Predict the answers of a model to the problems of a test set, and score them.

A prediction keeps the output as it was written and the parsed answer. A score counts how many answers could not be
parsed and how many were cut off. `molsaki.answers.parse` parses the outputs of students and of teachers.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from molsaki.answers.parse import parse_answer, parse_label
from molsaki.answers.right import is_right
from molsaki.counts import Progress, plural
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.student_chats import prompt_tokens, render_student
from molsaki.errors import DataError, EvaluationError
from molsaki.evaluation.crossed import PairedDifference, paired_difference
from molsaki.evaluation.intervals import Interval, wilson_interval
from molsaki.models.decode import Completion, decode_batches
from molsaki.records import Problem, require_unique_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PredictionStatus = Literal["ok", "none", "cut", "ambiguous", "unparsable", "too_long"]
"""The status of a parsed answer (see `molsaki.answers.parse`), or `too_long` if the prompt fills the context."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The output of a model for one problem, and the answer in it.

    Attributes:
        id: of the problem.
        text_hash: of the text of the problem, to detect predictions for another text.
        output: the generated text.
        status: whether an answer could be parsed.
        answer: the answer as it was written, or the text of the chosen choice; empty if none could be parsed.
        correct: whether the answer is right.
        tokens: number of generated tokens.
        cut: whether the output was cut off.
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
        """The JSON form. `from_dict` is its inverse."""
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
                f"Expected a prediction with the fields {names}; got {sorted(row)}: {error}. The row cannot be used. "
                "Write it with Prediction.to_dict()."
            ) from error


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of the predictions for one test set. Each prediction is in exactly one count.

    Attributes:
        correct: right answers.
        wrong: wrong answers.
        unparsable: complete outputs without an answer that can be parsed.
        cut: outputs that were cut off before an answer.
        too_long: prompts that fill the context of the model.
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
        """The number of predictions."""
        return self.correct + self.wrong + self.unparsable + self.cut + self.too_long

    @property
    def accuracy(self) -> float:
        """The share of right answers among all predictions."""
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
    """Yield the predictions of a model batch by batch, in the order of decoding. `in_order` sorts them.

    Decoding is greedy, see `molsaki.models.decode`. If the slot of the template is a label, the whole output is parsed
    as the answer. If it is a rationale, the answer sentence in it is parsed.

    Args:
        model: the student, or any causal language model.
        tokenizer: its tokenizer.
        problems: with unique ids.
        template: the `predict:`, `explain:` or `reason:` prompt. A chat is rendered with the tokenizer's chat template,
            with the same tokens as in training; an output ends with the assistant's turn.
        max_new_tokens: maximum number of tokens of an output.
        batch_size: number of problems in a batch.
        progress: called after each batch.

    Raises:
        DataError: two problems share an id.
        EvaluationError: the template asks for key words, or the answer of a problem cannot be compared.
        TokenizerError: the chat template is unsuitable for the chat; see `render_student`.
    """
    if template.slot == "keywords":
        raise EvaluationError(
            f"Expected a template that ends in {{label}} or {{rationale}}; got {str(template)!r}, which asks for key "
            "words. They cannot be right or wrong. Use another template."
        )
    require_unique_ids(problems)
    rendered, texts = render_student(tokenizer, template), [problem.text for problem in problems]
    batches = decode_batches(
        model,
        tokenizer,
        [prompt_tokens(tokenizer, rendered, text)[0] for text in texts]
        if template.is_chat
        else [template.prompt(text) for text in texts],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        ends=() if rendered.end_token is None else (rendered.end_token,),
        progress=progress,
    )
    for batch in batches:
        yield [parse_completion(problems[completion.index], completion, template) for completion in batch]


def in_order(predictions: Iterable[Prediction], problems: Sequence[Problem]) -> list[Prediction]:
    """One prediction per problem, in the order of the problems.

    Raises:
        EvaluationError: a prediction is missing, belongs to no problem, occurs twice, or is for another text.
    """
    by_id = {prediction.id: prediction for prediction in _require_unique(predictions)}
    missing = [problem.id for problem in problems if problem.id not in by_id]
    surplus = sorted(set(by_id) - {problem.id for problem in problems})
    if missing or surplus:
        raise EvaluationError(
            f"Expected one prediction for each of {len(problems)} problems; {len(missing)} are missing {missing[:3]} "
            f"and {len(surplus)} belong to other problems {surplus[:3]}. They cannot be scored. Evaluate the model on "
            "these problems again."
        )
    changed = [problem.id for problem in problems if by_id[problem.id].text_hash != problem.text_hash]
    if changed:
        raise EvaluationError(
            f"Expected predictions for the current texts of the problems; {len(changed)} are for other texts, the "
            f"first is {changed[0]!r}. They cannot be scored. Evaluate the model on these problems again."
        )
    return [by_id[problem.id] for problem in problems]


def score(predictions: Iterable[Prediction]) -> Score:
    """Score the predictions of one model on one test set.

    Raises:
        EvaluationError: there are no predictions, or two for one problem.
    """
    counts = Counter(_outcome(prediction) for prediction in _require_unique(predictions))
    n = counts.total()
    if n == 0:
        raise EvaluationError("Expected at least one prediction; got none. There is no accuracy to compute.")
    return Score(
        correct=counts["correct"],
        wrong=counts["wrong"],
        unparsable=counts["unparsable"],
        cut=counts["cut"],
        too_long=counts["too_long"],
        interval=wilson_interval(counts["correct"], n),
    )


def result_row(task: str, split: str, method: str, seed: int, result: Score) -> dict[str, Any]:
    """A row of results.json."""
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
    """Compare two methods by their predictions for the same problems.

    If each seed has its own problems, the columns of the table [seeds, problems] mean nothing: the variance of problems
    is in that of the seeds' means.

    Args:
        a: the predictions of the first method, one entry per seed.
        b: those of the second method, with the seeds in the same order.
        level: confidence level of the interval.

    Raises:
        EvaluationError: there are no seeds, the methods have different numbers of seeds, or the problems of a seed
            differ. Two seeds may have the same problems or none in common, and must have equally many.
    """
    runs = [_require_unique(run) for run in (*a, *b)]
    if not a or len(a) != len(b):
        raise EvaluationError(
            f"Expected predictions of both methods for the same seeds; got {len(a)} and {len(b)} seeds. They cannot be "
            "paired. Leave out the seeds that only one method has."
        )
    asked = [{(prediction.id, prediction.text_hash) for prediction in run} for run in runs]
    for i, problems in enumerate(asked):
        own_draw = not problems & asked[0] and len(problems) == len(asked[0])
        differing = problems ^ asked[i % len(a)] | (set() if own_draw else problems ^ asked[0])
        if differing:
            raise EvaluationError(
                f"Expected predictions for the same problems from all seeds, or equally many of its own for each seed; "
                f"{len(differing)} differ in id or text, for example {min(differing)[0]!r}. They cannot be paired. "
                "Evaluate all students of a seed on the same test set."
            )
    correct_SP = np.array([[row.correct for row in sorted(run, key=lambda row: row.id)] for run in runs], dtype=float)
    return paired_difference(correct_SP[: len(a)], correct_SP[len(a) :], level)


def parse_completion(problem: Problem, completion: Completion, template: PromptTemplate) -> Prediction:
    """The answer of a model in its completion of a prompt: the whole text for a label, else its answer sentence."""
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


def _require_unique(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The predictions as a list. Raises `EvaluationError` if a problem has two."""
    rows = list(predictions)
    repeated = [row_id for row_id, n in Counter(row.id for row in rows).items() if n > 1]
    if repeated:
        raise EvaluationError(
            f"Expected one prediction per problem; got several for {plural(len(repeated), 'problem')}, for example "
            f"{repeated[:3]}. They would count twice. Score one model on one test set at a time."
        )
    return rows

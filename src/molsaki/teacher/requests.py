"""What a teacher has been asked about each problem, what it said, and what is to be asked next.

Every completion is a row of the log of completions as soon as it is there, whether it is of use or not: a kill loses
only what was on its way, nothing that was paid for is asked twice, and all that a teacher wrote can be read there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import ArtefactError
from molsaki.models.decode import Completion
from molsaki.records import CHOICE_LETTERS, Problem
from molsaki.store.row_log import RowLog
from molsaki.teacher.filter import Keep, Learn, SelectedSample, check_completion, select_sample

Pass = Literal["rationale", "second pass", "key words"]
PASSES: tuple[Pass, ...] = get_args(Pass)
Key = tuple[Pass, int]
"""What a completion answers: which pass, and which of its samples."""

_FIELDS = ("id", "text_hash", "pass", "sample", "prompt", "text", "cut", "too_long", "prompt_tokens", "tokens")
_FROM_SERVERS = ("thinking", "finish", "filtered")
"""Fields that logs of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class Questions:
    """How a teacher is asked.

    Attributes:
        rationale: the template that rationales are asked with.
        second_pass: the template that they are asked with again where none is right, with `{answer}`; None drops them.
        keywords: the template that key words of multiple-choice problems are asked with; None asks for none.
        question_words: take the question's content words for key words; the teacher is then not asked for any.
        samples: how many rationales are asked for at a time.
        keep: what is kept.
        learn: what a student learns of completions with thinking.
    """

    rationale: PromptTemplate
    second_pass: PromptTemplate | None = None
    keywords: PromptTemplate | None = None
    samples: int = 1
    keep: Keep = "right"
    question_words: bool = False
    learn: Learn = "summary"

    def prompt(self, problem: Problem, which: Pass) -> Prompt:
        """What a teacher is asked about a problem."""
        if which == "second pass":
            assert self.second_pass is not None
            return self.second_pass.given(right_answer(problem)).ask(problem.text)
        template = self.keywords if which == "key words" else self.rationale
        assert template is not None
        return template.ask(problem.text)


@dataclass(slots=True)
class ProblemRequests:
    """One problem with what was said about it.

    Attributes:
        problem: the problem.
        questions: how the teacher is asked.
        completions: the completions that are there.
    """

    problem: Problem
    questions: Questions
    completions: dict[Key, Completion] = field(default_factory=dict)

    def wanted(self) -> list[Key]:
        """What is to be asked next; nothing once the problem is settled."""
        for which in ("rationale", "second pass"):
            if which == "second pass" and not self._goes_on():
                break
            missing: list[Key] = [
                (which, i) for i in range(self.questions.samples) if (which, i) not in self.completions
            ]
            if missing:
                return missing
        if self.selected().result.kept and self._lacks_keywords() and ("key words", 0) not in self.completions:
            return [("key words", 0)]
        return []

    def selected(self) -> SelectedSample:
        """The output that counts: of the second pass if there was one, else of the first."""
        return self._chosen("second pass" if ("second pass", 0) in self.completions else "rationale")

    @property
    def named(self) -> str | None:
        """What was said about key words, or None."""
        completion = self.completions.get(("key words", 0))
        return None if completion is None else completion.text

    @property
    def tokens(self) -> tuple[int, int]:
        """How many tokens were sent and written."""
        said = self.completions.values()
        return sum(completion.prompt_tokens for completion in said), sum(completion.tokens for completion in said)

    def _goes_on(self) -> bool:
        return self.questions.second_pass is not None and not self._chosen("rationale").result.kept

    def _lacks_keywords(self) -> bool:
        return self.questions.keywords is not None and bool(self.problem.choices) and self.problem.keywords is None

    def _chosen(self, which: Pass) -> SelectedSample:
        completions = [
            self.completions[which, i] for i in range(self.questions.samples) if (which, i) in self.completions
        ]
        second = which == "second pass"
        keep, learn = self.questions.keep, self.questions.learn
        results = [check_completion(self.problem, c, keep=keep, second_pass=second, learn=learn) for c in completions]
        return select_sample(completions, results)


def right_answer(problem: Problem) -> str:
    """The right answer as a second pass is given it: a choice with its letter, else the label."""
    if problem.answer in problem.choices:
        return f"({CHOICE_LETTERS[problem.choices.index(problem.answer)]}) {problem.answer}"
    return problem.label


def open_requests(log: RowLog, problems: Sequence[Problem], questions: Questions) -> dict[str, ProblemRequests]:
    """The all_requests of these problems with what the log of completions has of them, by id.

    Raises:
        ArtefactError: a completion was made for other text or another prompt, has a double or lacks a field.
    """
    all_requests = {problem.id: ProblemRequests(problem, questions) for problem in problems}
    for row in log.rows():
        missing = [name for name in _FIELDS if name not in row]
        if missing or row["pass"] not in PASSES:
            raise _unfit(log, f"rows with the fields {', '.join(_FIELDS)}", f"one without {', '.join(missing)}")
        requests = all_requests.get(row["id"])
        if requests is None:
            continue
        if row["text_hash"] != requests.problem.text_hash:
            raise _unfit(log, f"the text of problem {row['id']!r} as it is now", "a completion for other text")
        key: Key = (row["pass"], row["sample"])
        if key in requests.completions:
            raise _unfit(log, "one completion for each question", f"two for {row['id']!r}")
        if _asked_otherwise(requests, row):
            raise _unfit(log, f"prompts as they are now for problem {row['id']!r}", "a completion of another prompt")
        requests.completions[key] = Completion(
            0,
            row["text"],
            row["tokens"],
            cut=row["cut"],
            too_long=row["too_long"],
            prompt_tokens=row["prompt_tokens"],
            **{name: row[name] for name in _FROM_SERVERS if name in row},
        )
    return all_requests


def completion_row(requests: ProblemRequests, key: Key, completion: Completion) -> dict[str, Any]:
    """A completion as a row of the log."""
    which, sample = key
    return {
        "id": requests.problem.id,
        "text_hash": requests.problem.text_hash,
        "pass": which,
        "sample": sample,
        "prompt": requests.questions.prompt(requests.problem, which).hash,
        "text": completion.text,
        "cut": completion.cut,
        "too_long": completion.too_long,
        "prompt_tokens": completion.prompt_tokens,
        "tokens": completion.tokens,
        **{name: getattr(completion, name) for name in _FROM_SERVERS},
    }


def of_pass(all_requests: Iterable[ProblemRequests], which: Pass) -> list[tuple[ProblemRequests, Key]]:
    """What is to be asked in one pass."""
    return [(requests, key) for requests in all_requests for key in requests.wanted() if key[0] == which]


def _asked_otherwise(requests: ProblemRequests, row: Mapping[str, Any]) -> bool:
    questions = requests.questions
    templates = {"rationale": questions.rationale, "second pass": questions.second_pass}
    template = templates.get(row["pass"], questions.keywords)
    return template is None or questions.prompt(requests.problem, row["pass"]).hash != row["prompt"]


def _unfit(log: RowLog, expected: str, got: str) -> ArtefactError:
    return ArtefactError(
        f"Expected {expected} in {log.path}; got {got}. Its completions are not used; ask with the problems and "
        "prompts that it was made with, or generate into another directory."
    )

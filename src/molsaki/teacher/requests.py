"""The requests to a teacher for each problem: the completions so far, and the next ones to request.

Every completion, kept or not, becomes a row of the log of completions as soon as it arrives. So a kill loses only open
requests, nothing that was paid for is requested twice, and the log has everything that the teacher wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from molsaki.answers.thinking import split_thinking
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import ArtefactError
from molsaki.models.decode import Completion
from molsaki.records import CHOICE_LETTERS, Problem
from molsaki.store.row_log import RowLog
from molsaki.teacher.filter import Keep, Learn, SelectedSample, check_completion, select_sample

Pass = Literal["rationale", "second pass", "key words"]
PASSES: tuple[Pass, ...] = get_args(Pass)
Key = tuple[Pass, int]
"""The pass and the sample that a completion belongs to."""

_FIELDS = ("id", "text_hash", "pass", "sample", "prompt", "text", "cut", "too_long", "prompt_tokens", "tokens")
_FROM_SERVERS = ("thinking", "finish", "filtered")
"""Fields that logs of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The prompts and settings of a teacher's requests.

    Attributes:
        rationale: the template of the request for rationales.
        second_pass: the template, with `{answer}`, of a second request if no rationale is right; None for no second
            request.
        keywords: the template of the request for the key words of a multiple-choice problem; None for no request.
        question_words: use the content words of the question as key words instead of requesting them.
        samples: the number of rationales in each pass.
        keep: which rationales are kept, see `check_completion`.
        learn: the part of completions with thinking that a student learns.
    """

    rationale: PromptTemplate
    second_pass: PromptTemplate | None = None
    keywords: PromptTemplate | None = None
    samples: int = 1
    keep: Keep = "right"
    question_words: bool = False
    learn: Learn = "summary"

    def prompt(self, problem: Problem, which: Pass) -> Prompt:
        """The prompt of a problem in one pass."""
        if which == "second pass":
            assert self.second_pass is not None
            return self.second_pass.given(right_answer(problem)).ask(problem.text)
        template = self.keywords if which == "key words" else self.rationale
        assert template is not None
        return template.ask(problem.text)


@dataclass(slots=True)
class ProblemRequests:
    """One problem with the completions so far.

    Attributes:
        problem: the problem.
        questions: the prompts and settings.
        completions: the completions so far, by pass and sample.
    """

    problem: Problem
    questions: Questions
    completions: dict[Key, Completion] = field(default_factory=dict)

    def wanted(self) -> list[Key]:
        """The completions to request next; empty once the problem is finished."""
        for which in ("rationale", "second pass"):
            if which == "second pass" and not self._needs_second_pass():
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
        """The selected output: of the second pass if it was requested, unless only the first has a kept one."""
        first = self._select("rationale")
        if ("second pass", 0) not in self.completions:
            return first
        second = self._select("second pass")
        return first if first.result.kept and not second.result.right else second

    @property
    def named(self) -> Completion | None:
        """The completion of the request for key words, or None."""
        return self.completions.get(("key words", 0))

    @property
    def thinks(self) -> bool:
        """Whether a completion so far has thinking, in the text or beside it."""
        return any(c.thinking or split_thinking(c.text).thinking for c in self.completions.values())

    @property
    def tokens(self) -> tuple[int, int]:
        """The number of tokens sent and written."""
        all_tokens = [(completion.prompt_tokens, completion.tokens) for completion in self.completions.values()]
        return sum(sent for sent, _ in all_tokens), sum(written for _, written in all_tokens)

    def _needs_second_pass(self) -> bool:
        return self.questions.second_pass is not None and not self._select("rationale").result.right

    def _lacks_keywords(self) -> bool:
        return self.questions.keywords is not None and bool(self.problem.choices) and self.problem.keywords is None

    def _select(self, which: Pass) -> SelectedSample:
        completions = [
            self.completions[which, i] for i in range(self.questions.samples) if (which, i) in self.completions
        ]
        second = which == "second pass"
        keep, learn = self.questions.keep, self.questions.learn
        results = [check_completion(self.problem, c, keep=keep, second_pass=second, learn=learn) for c in completions]
        return select_sample(completions, results)


def right_answer(problem: Problem) -> str:
    """The right answer in the prompt of a second pass: a choice with its letter, else the label."""
    if problem.answer in problem.choices:
        return f"({CHOICE_LETTERS[problem.choices.index(problem.answer)]}) {problem.answer}"
    return problem.label


def open_requests(log: RowLog, problems: Sequence[Problem], questions: Questions) -> dict[str, ProblemRequests]:
    """The requests of these problems by id, with their completions from the log.

    Raises:
        ArtefactError: a completion belongs to other text or another prompt, is duplicated or lacks a field.
    """
    all_requests = {problem.id: ProblemRequests(problem, questions) for problem in problems}
    for row in log.rows():
        missing = [name for name in _FIELDS if name not in row]
        if missing:
            raise _unfit(log, f"rows with the fields {', '.join(_FIELDS)}", f"one without {', '.join(missing)}")
        if row["pass"] not in PASSES:
            raise _unfit(log, f"rows of a pass among {', '.join(PASSES)}", f"one of {row['pass']!r}")
        requests = all_requests.get(row["id"])
        if requests is None:
            continue
        if row["text_hash"] != requests.problem.text_hash:
            raise _unfit(log, f"the text of problem {row['id']!r} as it is now", "a completion for other text")
        key: Key = (row["pass"], row["sample"])
        if key in requests.completions:
            raise _unfit(log, "one completion for each question", f"two for {row['id']!r}")
        if _has_other_prompt(requests, row):
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
    """The completions to request next that belong to one pass."""
    return [(requests, key) for requests in all_requests for key in requests.wanted() if key[0] == which]


def _has_other_prompt(requests: ProblemRequests, row: Mapping[str, Any]) -> bool:
    questions = requests.questions
    templates = {"rationale": questions.rationale, "second pass": questions.second_pass}
    template = templates.get(row["pass"], questions.keywords)
    return template is None or questions.prompt(requests.problem, row["pass"]).hash != row["prompt"]


def _unfit(log: RowLog, expected: str, got: str) -> ArtefactError:
    return ArtefactError(
        f"Expected {expected} in {log.path}; got {got}. Its completions are not used; go back to the problems and "
        "prompts that it was generated with, or generate into another directory."
    )

"""Rationales that reach the right answer: written by a teacher here, imported, or those of the data set.

Every problem gets one row in a log, kept or not, with what was written and the reason for the result. Rows are on
disk as soon as their problem is settled, and what a teacher wrote as soon as it is there, so an interrupted run loses
at most what was on its way, and a second run goes on behind the first. Reports are counted from the log, so they say
the same after one run as after five.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from molsaki.encoding.prompts import PromptTemplate, Slot
from molsaki.errors import RecipeError
from molsaki.models.decode import Completion, Progress
from molsaki.records import Problem
from molsaki.store.row_log import RowLog
from molsaki.teacher.filter import FilterResult, Learn, check_completion
from molsaki.teacher.keywords import choose_keywords, parse_keywords, question_words
from molsaki.teacher.rationales import (
    GenerationReport,
    RationaleRow,
    pending_problems,
    read_rationales,
    report_rationales,
)
from molsaki.teacher.requests import (
    PASSES,
    Key,
    Pass,
    ProblemRequests,
    Questions,
    completion_row,
    of_pass,
    open_requests,
)
from molsaki.teacher.writer import Request, Writer

__all__ = [
    "GenerationReport",
    "KeywordSource",
    "RationaleRow",
    "generate_rationales",
    "import_rationales",
    "own_rationales",
    "read_rationales",
]

KeywordSource = Literal["data", "question-words"]
"""Where the key words of imported rationales come from: only from the data set, or, where it has none, the
question's content words."""

KEYWORD_TOKENS = 48
"""The bound on a teacher's line of key words."""
ROWS_PER_WRITE = 1000


def generate_rationales(
    writer: Writer,
    problems: Sequence[Problem],
    questions: Questions,
    *,
    log: RowLog,
    completions: RowLog,
    max_new_tokens: int,
    temperature: float = 0.0,
    progress: Progress | None = None,
) -> GenerationReport:
    """Let a teacher answer the problems that the log does not have yet; keep what reaches the right answer.

    First all rationales are asked for, then, where none of a problem's is right and there is a second pass, rationales
    that lead to the given answer, then key words of those kept that have none. A problem whose teacher fails (a server
    that does not answer) has no row and is asked again by the next run; the report's `unanswered` counts them.

    Args:
        writer: the teacher.
        problems: with ids of their own.
        questions: how it is asked.
        log: where the rows are, and where new ones are appended as soon as their problem is settled.
        completions: the log of all that the teacher wrote.
        max_new_tokens: the bound on one rationale with its answer.
        temperature: of sampling rationales; 0 takes the likeliest token. Key words are never sampled.
        progress: called as completions arrive, with how many problems do not wait for one in the present pass, and how
            many problems there are.

    Raises:
        RecipeError: a template has the wrong slot, or is none that this teacher can be asked with.
        ArtefactError: a log has rows of other text under these ids, or of other prompts.
        StageError: a server refuses, or does not answer any more; what it answered is in the logs.
    """
    _require_questions(writer, questions)
    pending = pending_problems(log, problems)
    done_before = len(problems) - len(pending)
    all_requests = open_requests(completions, pending, questions)
    _settle(all_requests, list(all_requests.values()), log)  # a kill may have come between the two logs
    failures: Counter[str] = Counter()
    for which in PASSES:
        asked = of_pass(all_requests.values(), which)
        arriving = writer.complete(
            [Request(requests.questions.prompt(requests.problem, which), key[1]) for requests, key in asked],
            max_new_tokens=KEYWORD_TOKENS if which == "key words" else max_new_tokens,
            temperature=0.0 if which == "key words" else temperature,
        )
        waiting = Counter(requests.problem.id for requests, _ in asked)
        for batch in arriving:
            answered = [(*asked[c.index], c) for c in batch if not c.failure]
            failures.update(c.failure for c in batch if c.failure)
            _hear(answered, all_requests, completions, log)
            waiting -= Counter(asked[c.index][0].problem.id for c in batch)
            if progress is not None:
                progress(len(problems) - len(waiting), len(problems))
    notes = {f"questions without an answer in this run: {reason}": n for reason, n in failures.most_common()}
    return report_rationales(log, problems, done_before, notes | dict(writer.notes.most_common()))


def _hear(
    answered: Sequence[tuple[ProblemRequests, Key, Completion]],
    all_requests: dict[str, ProblemRequests],
    completions: RowLog,
    log: RowLog,
) -> None:
    """Write completions down, and the rows of the problems that they settle."""
    completions.append([completion_row(*item) for item in answered])
    touched: dict[str, ProblemRequests] = {}
    for requests, key, completion in answered:
        requests.completions[key] = completion
        touched[requests.problem.id] = requests
    _settle(all_requests, list(touched.values()), log)


def _settle(all_requests: dict[str, ProblemRequests], touched: Iterable[ProblemRequests], log: RowLog) -> None:
    settled = [requests for requests in touched if not requests.wanted()]
    log.append([_settled_row(requests) for requests in settled])
    for requests in settled:
        del all_requests[requests.problem.id]


def _settled_row(requests: ProblemRequests) -> dict[str, Any]:
    selected = requests.selected()
    named = None if requests.named is None else parse_keywords(requests.named)
    source = "teacher"
    if requests.questions.question_words:
        named, source = question_words(requests.problem.question), "question-words"
    sent, written = requests.tokens
    return _row(requests.problem, selected.completion.text, selected.result, named, source) | {
        "samples": requests.questions.samples,
        "agreement": selected.agreement,
        "prompt_tokens": sent,
        "tokens": written,
    }


def import_rationales(
    raw: Mapping[str, str],
    problems: Sequence[Problem],
    log: RowLog,
    *,
    keywords_from: KeywordSource = "data",
    learn: Learn = "summary",
) -> GenerationReport:
    """Take over what some model wrote elsewhere, such as PaLM's completions; keep what reaches the right
    answer.

    Args:
        raw: completions by problem id: a rationale, an answer sentence, perhaps invented questions behind it.
        problems: those without a completion are counted as `no completion`.
        log: as for `generate_rationales`.
        keywords_from: see `KeywordSource`.
        learn: what a student learns of completions with thinking.

    Raises:
        ArtefactError: the log has rows of other text under these ids.
    """

    def row(problem: Problem) -> dict[str, Any]:
        text = raw.get(problem.id)
        if text is None:
            return _row(problem, "", FilterResult("none", "", "no completion"), None, None)
        result = check_completion(problem, Completion(0, text, 0, cut=False), learn=learn)
        return _imported_row(problem, text, result, keywords_from)

    notes = {"completions of other problems": len(set(raw) - {problem.id for problem in problems})}
    return _import(problems, log, row, notes)


def own_rationales(
    problems: Sequence[Problem], log: RowLog, *, keywords_from: KeywordSource = "data"
) -> GenerationReport:
    """Take over the rationales that come with the data set, such as GSM8K's.

    They hold no answer sentence, so nothing can be checked; they are kept as they are, with the reason
    `given`.

    Args:
        problems: those without a rationale, or with an empty one, are counted as `empty rationale`.
        log: as for `generate_rationales`.
        keywords_from: see `KeywordSource`.

    Raises:
        ArtefactError: the log has rows of other text under these ids.
    """

    def row(problem: Problem) -> dict[str, Any]:
        text = problem.rationale or ""
        reason = "given" if text.strip() else "empty rationale"
        return _imported_row(problem, text, FilterResult("given", text.strip(), reason), keywords_from)

    return _import(problems, log, row, {})


def _row(
    problem: Problem,
    output: str,
    result: FilterResult,
    named: Sequence[str] | None,
    source: str | None,
) -> dict[str, Any]:
    """The log's row; key words of the problem's own come before those that were named for it."""
    if problem.keywords is not None:
        named, source = problem.keywords, "data"
    selected = None
    if result.kept and problem.choices:
        selected = choose_keywords(named or (), problem.text, result.rationale)
    return {
        "id": problem.id,
        "text_hash": problem.text_hash,
        "output": output,
        "rationale": result.rationale,
        "status": result.status,
        "kept": result.kept,
        "reason": result.reason,
        "keywords": None if selected is None else list(selected.kept),
        "keywords_dropped": None if selected is None else list(selected.dropped),
        "keywords_from": source if selected is not None and named is not None else None,
        "samples": None,
        "agreement": None,
        "prompt_tokens": None,
        "tokens": None,
        **({"notes": list(result.notes)} if result.notes else {}),
    }


def _imported_row(problem: Problem, text: str, result: FilterResult, keywords_from: KeywordSource) -> dict[str, Any]:
    if keywords_from == "question-words":
        return _row(problem, text, result, question_words(problem.question), keywords_from)
    return _row(problem, text, result, None, None)


def _import(
    problems: Sequence[Problem],
    log: RowLog,
    make_row: Callable[[Problem], dict[str, Any]],
    notes: Mapping[str, int],
) -> GenerationReport:
    pending = pending_problems(log, problems)
    for start in range(0, len(pending), ROWS_PER_WRITE):
        log.append([make_row(problem) for problem in pending[start : start + ROWS_PER_WRITE]])
    return report_rationales(log, problems, len(problems) - len(pending), notes)


def _require_questions(writer: Writer, questions: Questions) -> None:
    if questions.question_words and questions.keywords is not None:
        raise RecipeError(
            "Expected either a template for key words or the question's words, got both. What the teacher would be "
            "asked for would be thrown away; leave one of the two out."
        )
    asked: dict[Pass, tuple[PromptTemplate | None, Slot]] = {
        "rationale": (questions.rationale, "rationale"),
        "second pass": (questions.second_pass, "rationale"),
        "key words": (questions.keywords, "keywords"),
    }
    for which, (template, slot) in asked.items():
        if template is None:
            continue
        if template.slot != slot or (which == "second pass" and not template.gives_answer):
            wanted = f"ends in {{{slot}}}" + (" and has one {answer}" if which == "second pass" else "")
            raise RecipeError(
                f"Expected a template for the {which} that {wanted}, got {str(template)!r}. The teacher would be "
                f"asked for something else; change the template in the recipe."
            )
        writer.require(template)

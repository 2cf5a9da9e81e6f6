"""The generate stage: rationales from a teacher, from another tool, or from the data set.

Every problem gets one row in the log of rationales, with the rationale, whether it is kept, and the reason. The row is
written when no more completions are needed for the problem; completions are logged as they arrive. So an interrupt
loses only the requests in flight, and the next run continues after them. Reports count the rows of the log: they do not
depend on the number of runs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from molsaki.counts import Progress
from molsaki.encoding.prompts import PromptTemplate, Slot
from molsaki.errors import RecipeError
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.store.row_log import RowLog
from molsaki.teacher.filter import FilterResult, Keep, Learn, check_completion, check_given
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
"""Where the key words of imported rationales come from: the data set, or the content words of the question. The latter
are used only if the data set has no key words."""

KEYWORD_TOKENS = 48
"""Maximum number of tokens of a teacher's line of key words, if the teacher does not think before it writes."""
KEYWORDS_CUT = "requests for key words that were cut off before any"
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
    """Let a teacher write rationales for the problems that are not in the log, and keep those that are right.

    There are three passes: rationales for all problems; a second pass with the right answer for problems without a
    right rationale, if the recipe has one; and key words for kept rationales that have none. A problem without an
    answer from a server gets no row. `unanswered` in the report counts it, and the next run asks again.

    Args:
        writer: the teacher.
        problems: with unique ids.
        questions: the prompts.
        log: the log of rationales.
        completions: the log of all completions.
        max_new_tokens: maximum number of tokens of a rationale with its answer.
        temperature: of sampling rationales; 0 decodes greedily, and so are key words.
        progress: called as completions arrive, with the number of problems that wait for no completion in this pass
            and the number of all problems.

    Raises:
        RecipeError: a template has the wrong slot, or the teacher cannot use it.
        ArtefactError: a log has rows of other texts or of other prompts for these ids.
        StageError: a server refuses requests or stopped answering. The logs have all earlier completions.
    """
    _require_questions(writer, questions)
    pending = pending_problems(log, problems)
    done_before = len(problems) - len(pending)
    all_requests = open_requests(completions, pending, questions)
    _finish(all_requests, list(all_requests.values()), log)  # a kill may have left only the row of the completion
    failures: Counter[str] = Counter()
    for which in PASSES:
        waiting = of_pass(all_requests.values(), which)
        short = which == "key words" and not any(requests.thinks for requests, _ in waiting)
        batches = writer.complete(
            [Request(requests.questions.prompt(requests.problem, which), key[1]) for requests, key in waiting],
            max_new_tokens=KEYWORD_TOKENS if short else max_new_tokens,
            temperature=0.0 if which == "key words" else temperature,
        )
        pending_ids = Counter(requests.problem.id for requests, _ in waiting)
        for batch in batches:
            failures.update(c.failure for c in batch if c.failure)
            _log_completions([(*waiting[c.index], c) for c in batch if not c.failure], all_requests, completions, log)
            pending_ids -= Counter(waiting[c.index][0].problem.id for c in batch)
            if progress is not None:
                progress(len(problems) - len(pending_ids), len(problems))
    notes = {f"questions without an answer in this run: {reason}": n for reason, n in failures.most_common()}
    return report_rationales(log, problems, done_before, notes | dict(writer.notes.most_common()))


def _log_completions(
    arrived: Sequence[tuple[ProblemRequests, Key, Completion]],
    all_requests: dict[str, ProblemRequests],
    completions: RowLog,
    log: RowLog,
) -> None:
    """Log completions, and the rows of the problems that need no more of them."""
    completions.append([completion_row(*item) for item in arrived])
    changed: dict[str, ProblemRequests] = {}
    for requests, key, completion in arrived:
        requests.completions[key] = completion
        changed[requests.problem.id] = requests
    _finish(all_requests, list(changed.values()), log)


def _finish(all_requests: dict[str, ProblemRequests], changed: Iterable[ProblemRequests], log: RowLog) -> None:
    """Log the rows of problems that need no more completions, and remove them from the requests."""
    finished = [requests for requests in changed if not requests.wanted()]
    log.append([_finished_row(requests) for requests in finished])
    for requests in finished:
        del all_requests[requests.problem.id]


def _finished_row(requests: ProblemRequests) -> dict[str, Any]:
    selected, named = requests.selected(), requests.named
    keywords, source = None if named is None else parse_keywords(named.text), "teacher"
    result = selected.result
    if named is not None and named.cut and not keywords:
        result = dataclasses.replace(result, notes=(*result.notes, KEYWORDS_CUT))
    if requests.questions.question_words:
        keywords, source = question_words(requests.problem.question), "question-words"
    sent, written = requests.tokens
    return _row(requests.problem, selected.completion.text, result, keywords, source) | {
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
    keep: Keep = "right",
    learn: Learn = "summary",
) -> GenerationReport:
    """Import completions that another tool wrote, such as PaLM's, and keep those with the right answer.

    Args:
        raw: completions by problem id. Text after the answer sentence, such as invented questions, is ignored.
        problems: with unique ids. Those without a completion are counted as `no completion`.
        log: the log of rationales.
        keywords_from: see `KeywordSource`.
        keep: "all" also keeps those that are not right; see `check_completion`.
        learn: what a student learns of completions with thinking.

    Raises:
        ArtefactError: the log has rows of other texts for these ids.
    """

    def row(problem: Problem) -> dict[str, Any]:
        text = raw.get(problem.id)
        if text is None:
            return _row(problem, "", FilterResult("none", "", "no completion"), None, None)
        result = check_completion(problem, Completion(0, text, 0, cut=False), keep=keep, learn=learn)
        return _imported_row(problem, text, result, keywords_from)

    notes = {"completions of other problems": len(set(raw) - {problem.id for problem in problems})}
    return _import(problems, log, row, notes)


def own_rationales(
    problems: Sequence[Problem],
    log: RowLog,
    *,
    keywords_from: KeywordSource = "data",
    learn: Learn | None = "summary",
) -> GenerationReport:
    """Use the rationales of the data set, such as GSM8K's. They are kept with the reason `given`; see `check_given`.

    Args:
        problems: with unique ids. Those without a rationale are counted as `empty rationale`.
        log: the log of rationales.
        keywords_from: see `KeywordSource`.
        learn: what a student learns of rationales with thinking; None keeps every text as it is.

    Raises:
        ArtefactError: the log has rows of other texts for these ids.
    """

    def row(problem: Problem) -> dict[str, Any]:
        return _imported_row(problem, problem.rationale or "", check_given(problem, learn), keywords_from)

    return _import(problems, log, row, {})


def _row(
    problem: Problem,
    output: str,
    result: FilterResult,
    keywords: Sequence[str] | None,
    source: str | None,
) -> dict[str, Any]:
    """A row of the log. The key words of the data set take precedence over `keywords`."""
    if problem.keywords is not None:
        keywords, source = problem.keywords, "data"
    selected = None
    if result.kept and problem.choices:
        selected = choose_keywords(keywords or (), problem.text, result.rationale)
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
        "keywords_from": source if selected is not None and keywords is not None else None,
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
            "Expected a template for key words or the words of the question; got both. The key words of the teacher "
            "would not be used. Leave one of them out."
        )
    templates: dict[Pass, tuple[PromptTemplate | None, Slot]] = {
        "rationale": (questions.rationale, "rationale"),
        "second pass": (questions.second_pass, "rationale"),
        "key words": (questions.keywords, "keywords"),
    }
    for which, (template, slot) in templates.items():
        if template is None:
            continue
        if template.slot != slot or (which == "second pass" and not template.gives_answer):
            expected = f"ends in {{{slot}}}" + (" and has one {answer}" if which == "second pass" else "")
            raise RecipeError(
                f"Expected a template for the {which} that {expected}; got {str(template)!r}. The teacher would "
                "generate something else. Change the template in the recipe."
            )
        writer.require(template)

"""Rationales that reach the right answer: written by a teacher here, imported, or those of the data set.

Every problem gets one row in a log, kept or not, with what was written and the reason for the verdict. A
batch is on disk before the next begins, so an interrupted run loses at most the batch in flight, and a
second run goes on behind the first. Reports are counted from the log, so they say the same after one run as
after five.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molsaki.answers import is_right, parse_answer
from molsaki.artefacts import RowLog
from molsaki.decoding import Completion, Progress, decode_greedily
from molsaki.errors import RecipeError
from molsaki.named_words import choose_keywords, parse_keywords, question_words
from molsaki.prompts import PromptTemplate, Slot
from molsaki.rationales import (
    GenerationReport,
    RationaleRow,
    pending_problems,
    read_rationales,
    report_rationales,
)
from molsaki.records import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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

UNCHECKED = "kept unchecked"
"""The reason of a row that is kept although it does not reach the right answer, where that was asked for."""

_REASON_OF_STATUS = {
    "none": "no answer",
    "cut": "cut off",
    "ambiguous": "ambiguous",
    "unparsable": "unparsable",
}


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How one output was read; `reason` is `right` or why it is not used."""

    status: str
    rationale: str
    reason: str

    @property
    def kept(self) -> bool:
        return self.reason in ("right", "given", UNCHECKED)


def generate_rationales(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    template: PromptTemplate,
    *,
    log: RowLog,
    max_new_tokens: int,
    batch_size: int = 64,
    keywords_template: PromptTemplate | None = None,
    keep: Literal["right", "all"] = "right",
    progress: Progress | None = None,
) -> GenerationReport:
    """Let a teacher answer the problems that the log does not have yet; keep what reaches the right answer.

    Args:
        model: the teacher.
        tokenizer: its tokenizer.
        problems: with ids of their own.
        template: ends in `{rationale}`; may hold few-shot examples.
        log: where the rows are, and where new ones are appended batch by batch.
        max_new_tokens: the bound on one rationale with its answer.
        batch_size: how many problems at a time.
        keywords_template: ends in `{keywords}`; asked for multiple-choice problems whose rationale was kept
            and that have no key words of their own. None asks for none.
        keep: "right" keeps what reaches the right answer; "all" keeps whatever has text, to try a pipeline out.
        progress: called after each batch with how many of the problems are done and how many there are.

    Raises:
        RecipeError: a template has the wrong slot.
        ArtefactError: the log has rows of other text under these ids.
    """
    _require_slot(template, "rationale")
    if keywords_template is not None:
        _require_slot(keywords_template, "keywords")
    pending = pending_problems(log, problems)
    done_before = len(problems) - len(pending)
    batches = decode_greedily(
        model,
        tokenizer,
        [template.prompt(problem.text) for problem in pending],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )
    done = done_before
    for batch in batches:
        judged = [(pending[c.index], c, _judge(pending[c.index], c, keep)) for c in batch]
        asked = [problem for problem, _, verdict in judged if verdict.kept and _lacks_keywords(problem)]
        named: dict[str, tuple[str, ...]] = {}
        if keywords_template is not None:
            named = _ask_for_keywords(model, tokenizer, asked, keywords_template, batch_size)
        log.append(
            _row(problem, completion.text, verdict, named.get(problem.id), "teacher")
            for problem, completion, verdict in judged
        )
        done += len(batch)
        if progress is not None:
            progress(done, len(problems))
    return report_rationales(log, problems, done_before)


def import_rationales(
    raw: Mapping[str, str],
    problems: Sequence[Problem],
    log: RowLog,
    *,
    keywords_from: KeywordSource = "data",
) -> GenerationReport:
    """Take over what some model wrote elsewhere, such as PaLM's completions; keep what reaches the right
    answer.

    Args:
        raw: completions by problem id: a rationale, an answer sentence, perhaps invented questions behind it.
        problems: those without a completion are counted as `no completion`.
        log: as for `generate_rationales`.
        keywords_from: see `KeywordSource`.

    Raises:
        ArtefactError: the log has rows of other text under these ids.
    """

    def row(problem: Problem) -> dict[str, Any]:
        text = raw.get(problem.id)
        if text is None:
            return _row(problem, "", _Verdict("none", "", "no completion"), None, None)
        verdict = _judge(problem, Completion(0, text, 0, cut=False))
        return _imported_row(problem, text, verdict, keywords_from)

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
        return _imported_row(problem, text, _Verdict("given", text.strip(), reason), keywords_from)

    return _import(problems, log, row, {})


def _judge(problem: Problem, completion: Completion, keep: Literal["right", "all"] = "right") -> _Verdict:
    verdict = _checked(problem, completion)
    text = verdict.rationale.strip() or completion.text.strip()
    if keep == "all" and not verdict.kept and text:
        return _Verdict(verdict.status, text, UNCHECKED)
    return verdict


def _checked(problem: Problem, completion: Completion) -> _Verdict:
    if completion.too_long:
        return _Verdict("too_long", "", "prompt too long")
    parsed = parse_answer(completion.text, problem.choices)
    if parsed.status != "ok":
        cut = parsed.status == "none" and completion.cut
        return _Verdict(parsed.status, "", "cut off" if cut else _REASON_OF_STATUS[parsed.status])
    if not is_right(parsed, problem):
        return _Verdict("ok", parsed.rationale, "wrong answer")
    if parsed.revised:  # the rationale ends before another answer, so it may not lead to this one
        return _Verdict("ok", parsed.rationale, "ambiguous")
    return _Verdict("ok", parsed.rationale, "right" if parsed.rationale.strip() else "empty rationale")


def _row(
    problem: Problem,
    output: str,
    verdict: _Verdict,
    named: Sequence[str] | None,
    source: str | None,
) -> dict[str, Any]:
    """The log's row; key words of the problem's own come before those that were named for it."""
    if problem.keywords is not None:
        named, source = problem.keywords, "data"
    chosen = None
    if verdict.kept and problem.choices:
        chosen = choose_keywords(named or (), problem.text, verdict.rationale)
    return {
        "id": problem.id,
        "text_hash": problem.text_hash,
        "output": output,
        "rationale": verdict.rationale,
        "status": verdict.status,
        "kept": verdict.kept,
        "reason": verdict.reason,
        "keywords": None if chosen is None else list(chosen.kept),
        "keywords_dropped": None if chosen is None else list(chosen.dropped),
        "keywords_from": source if chosen is not None and named is not None else None,
    }


def _imported_row(problem: Problem, text: str, verdict: _Verdict, keywords_from: KeywordSource) -> dict[str, Any]:
    if keywords_from == "question-words":
        return _row(problem, text, verdict, question_words(problem.question), keywords_from)
    return _row(problem, text, verdict, None, None)


def _lacks_keywords(problem: Problem) -> bool:
    return bool(problem.choices) and problem.keywords is None


def _ask_for_keywords(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    template: PromptTemplate,
    batch_size: int,
) -> dict[str, tuple[str, ...]]:
    batches = decode_greedily(
        model,
        tokenizer,
        [template.prompt(problem.text) for problem in problems],
        max_new_tokens=KEYWORD_TOKENS,
        batch_size=batch_size,
    )
    return {problems[c.index].id: parse_keywords(c.text) for batch in batches for c in batch}


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


def _require_slot(template: PromptTemplate, slot: Slot) -> None:
    if template.slot != slot:
        raise RecipeError(
            f"Expected a template that ends in {{{slot}}}, got {str(template)!r}. The teacher would be "
            f"asked for something else; change the template in the recipe."
        )

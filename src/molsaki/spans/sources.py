"""Which numbers of the question the numbers of a rationale come from, as rows and columns of attention."""

from __future__ import annotations

from collections.abc import Sequence

from molsaki.spans.find import Span, Spans, find_spans

Characters = tuple[int, int]
"""Start and end (exclusive) in the question."""


def source_columns(
    spans: Spans, question: str, rationale: str, sources: Sequence[Sequence[Characters]]
) -> list[tuple[int, ...]]:
    """For each row of attention, the columns with the numbers of the question that its own numbers come from.

    Sentences of the rationale and steps of the solution go in the same order. A sentence belongs to the first step that
    no earlier sentence has used and that has one of its numbers; after the last one, to the last one that has. Its
    numbers come from the sources of that step with the same digits.

    Args:
        spans: rows (as steps) and columns (as keys).
        question: the question's text, without prompt.
        rationale: the rationale's text.
        sources: the numbers of the question that each step of the solution uses.

    Returns:
        Indices of columns, for each row; none for the question and for rows without a number that has a source.
    """
    pairs = _sources_of_numbers(question, rationale, sources)
    found = []
    for row in spans.steps:
        inside = {source for number, source in pairs if number.overlaps(row)}
        found.append(tuple(i for i, column in enumerate(spans.keys) if any(column.overlaps(s) for s in inside)))
    return found


def _sources_of_numbers(
    question: str, rationale: str, sources: Sequence[Sequence[Characters]]
) -> list[tuple[Span, Span]]:
    """The numbers of the rationale, each with a source; several times if it has several, not at all if it has none."""
    found = find_spans(question, rationale, "numbers")
    steps = [[Span("question", *source) for source in step] for step in sources]
    digits = [{source.of(question, rationale) for source in step} for step in steps]
    pairs = []
    unused = 0  # the first step that no earlier sentence has used
    for sentence in found.steps[1:]:
        numbers = [number for number in found.keys if number.overlaps(sentence)]
        written = {number.of(question, rationale) for number in numbers}
        fitting = [i for i, of_step in enumerate(digits) if of_step & written]
        if not fitting:
            continue
        step = next((i for i in fitting if i >= unused), fitting[-1])
        unused = max(unused, step + 1)
        pairs += [
            (number, source)
            for number in numbers
            for source in steps[step]
            if source.of(question, rationale) == number.of(question, rationale)
        ]
    return pairs

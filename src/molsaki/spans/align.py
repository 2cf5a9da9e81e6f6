"""From spans of characters to the tokens of one tokenizer.

Teacher and student read the same question and rationale, each in its own prompt and with its own tokenizer. Steps and
keys are spans of characters in these two texts, and `align_spans` finds their tokens through the tokenizer's offsets.
A span can lack a token on one side: it was truncated, or one token covers two spans. Such a span is reported as
missing, and training leaves it out on both sides. So stepwise attention has the same rows and columns for teacher and
student.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from molsaki.errors import SpanError
from molsaki.spans.find import Span, Spans

NONE = -1
"""The index of a token that belongs to no step, or to no key."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The step and the key of each token of a sequence.

    Attributes:
        step_of_token: for each token the index of its step, or −1.
        key_of_token: for each token the index of its key, or −1.
        n_steps: number of steps, missing ones included.
        n_keys: number of keys, missing ones included.
        missing_steps: steps without a token, or cut by truncation, in order. No token has their index.
        missing_keys: keys without a token, or cut by truncation, in order. No token has their index.
    """

    step_of_token: tuple[int, ...]
    key_of_token: tuple[int, ...]
    n_steps: int
    n_keys: int
    missing_steps: tuple[int, ...] = ()
    missing_keys: tuple[int, ...] = ()

    @property
    def tokens_of_steps(self) -> tuple[int, ...]:
        """Number of tokens of each step; 0 for a missing one."""
        counts = Counter(self.step_of_token)
        return tuple(counts[step] for step in range(self.n_steps))

    def keep(self, steps: Sequence[int], keys: Sequence[int]) -> Alignment:
        """Keep some steps and keys, and number them from 0 in the order given.

        Args:
            steps: indices of the steps to keep; none of them missing.
            keys: indices of the keys to keep; none of them missing.
        """
        assert not set(steps) & set(self.missing_steps)
        assert not set(keys) & set(self.missing_keys)
        return Alignment(
            _renumber(self.step_of_token, steps), _renumber(self.key_of_token, keys), len(steps), len(keys)
        )


def align_spans(
    spans: Spans,
    offsets: Sequence[tuple[int, int]],
    *,
    question_start: int,
    rationale_start: int,
    truncated: bool = True,
) -> Alignment:
    r"""Find the step and the key of each token of a text that holds the question and the rationale.

    A token belongs to the span it overlaps. Spans start and end with visible characters, so a space that a tokenizer
    puts in front of a word (`Ġ12`, `▁12`) does not overlap. A token that overlaps several spans belongs to the one with
    the most characters in it, and to the first of them in a tie. Tokens that share one character (byte-level and
    byte-fallback tokens) all belong to its span. A token of zero width continues the token before it.

    With `Spans.leading_space`, a token that overlaps no span and lies directly before one belongs to that span, if it
    is part of the question or the rationale. The spans of `find_words` leave nothing but white space between them.

    With `Spans.before`, the token of a step is the one directly before the first token of its span, in whatever text:
    the one that predicts it.

    Example:
        >>> import molsaki
        >>> from transformers import AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> question, rationale = "Ada has 3 pens and buys 14. How many?", "3 and 14 are 17."
        >>> text = f"Q: {question}\nA: {rationale}"
        >>> encoding = AutoTokenizer.from_pretrained(STUDENT)(text, return_offsets_mapping=True)
        >>> alignment = molsaki.align_spans(
        ...     molsaki.find_spans(question, rationale),
        ...     encoding["offset_mapping"],
        ...     question_start=text.index(question),
        ...     rationale_start=text.index(rationale),
        ... )
        >>> len(alignment.step_of_token) == len(alignment.key_of_token) == len(encoding["input_ids"])
        True
        >>> alignment.n_steps, alignment.n_keys, alignment.missing_steps, alignment.missing_keys
        (2, 5, (), ())
        >>> tokens = encoding.tokens()
        >>> "".join(token for token, key in zip(tokens, alignment.key_of_token) if key == 1)
        'Ġ14'

    Args:
        spans: the example's spans, from `find_spans` or `find_words`.
        offsets: the (start, end) characters of each token in the text, as a fast tokenizer returns them with
            `return_offsets_mapping=True` for one text. Tokens of texts that were tokenized one by one need offsets
            that are shifted to the joined text.
        question_start: index of the question's first character in the text.
        rationale_start: index of the rationale's first character in the text.
        truncated: whether tokens may have been cut off at either end. Then a span that reaches beyond the tokens is
            missing as a whole, since half a number is another number. False keeps such a span: a tokenizer that
            composes a letter with its accent leaves the accent out of all offsets.

    Returns:
        `step_of_token` and `key_of_token` for `stepwise_attention`, and the spans that have no token.

    Raises:
        SpanError: the offsets are not pairs of numbers or go backwards, or the rationale starts before the question
            ends.
    """
    _require_order(spans, question_start, rationale_start)
    _require_offsets(offsets)
    starts = {"question": question_start, "rationale": rationale_start}
    step_of_token, missing_steps = _align(
        spans.steps, starts, offsets, truncated, spans.leading_space and not spans.before
    )
    if spans.before:
        step_of_token, missing_steps = _before(step_of_token, spans.n_steps)
    key_of_token, missing_keys = _align(spans.keys, starts, offsets, truncated, spans.leading_space)
    return Alignment(step_of_token, key_of_token, spans.n_steps, spans.n_keys, missing_steps, missing_keys)


def _align(
    spans: Sequence[Span],
    starts: Mapping[str, int],
    offsets: Sequence[tuple[int, int]],
    truncated: bool,
    leading_space: bool,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The span of each token, and the spans that are missing.

    Args:
        spans: the steps, or the keys.
        starts: index of the first character of question and rationale in the text.
        offsets: the (start, end) characters of each token.
        truncated: as in `align_spans`.
        leading_space: as in `Spans`.
    """
    ranges = [(span.start + starts[span.text], span.end + starts[span.text]) for span in spans]
    span_of_token = _assign(ranges, offsets)
    missing = set(range(len(spans))).difference(span_of_token)
    if truncated:
        missing.update(_cut(ranges, offsets))
    if leading_space:
        # Space before a span begins where the span before it ends, or where its text starts.
        begins, ends = [], dict(starts)
        for span, (_, end) in zip(spans, ranges, strict=True):
            begins.append(ends[span.text])
            ends[span.text] = end
        span_of_token = _add_leading_space(span_of_token, ranges, begins, offsets)
    return tuple(NONE if span in missing else span for span in span_of_token), tuple(sorted(missing))


def _before(span_of_token: Sequence[int], count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Move each span to the token before its first one; a span at the first token of all is missing."""
    moved = [NONE] * len(span_of_token)
    for span in set(range(count)).intersection(span_of_token):
        first = span_of_token.index(span)
        if first > 0:
            moved[first - 1] = span
    return tuple(moved), tuple(sorted(set(range(count)).difference(moved)))


def _assign(ranges: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The span of each token, in one sweep over both, which are in the text's order."""
    assigned: list[int] = []
    first = furthest = 0
    for start, end in offsets:
        if end <= start:
            assigned.append(assigned[-1] if assigned and 0 < start == furthest else NONE)
            continue
        furthest = max(furthest, end)
        # No later token can overlap a span that ends before this one starts.
        while first < len(ranges) and ranges[first][1] <= start:
            first += 1
        assigned.append(_most_overlapped(ranges, first, start, end))
    return assigned


def _most_overlapped(ranges: Sequence[tuple[int, int]], first: int, start: int, end: int) -> int:
    """The span, from `first` on, that has the most characters in a token."""
    best, most = NONE, 0
    for i in range(first, len(ranges)):
        span_start, span_end = ranges[i]
        if span_start >= end:
            break
        overlap = min(end, span_end) - max(start, span_start)
        if overlap > most:
            best, most = i, overlap
    return best


def _add_leading_space(
    span_of_token: Sequence[int],
    ranges: Sequence[tuple[int, int]],
    begins: Sequence[int],
    offsets: Sequence[tuple[int, int]],
) -> list[int]:
    """Give a token without a span to the next span, if it does not start before that span's `begins`."""
    added = list(span_of_token)
    following = 0
    for token, (start, end) in enumerate(offsets):
        while following < len(ranges) and ranges[following][0] < end:
            following += 1
        if following == len(ranges):
            break
        if added[token] == NONE and begins[following] <= start < end:
            added[token] = following
    return added


def _cut(ranges: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The spans that reach beyond the tokens' characters."""
    visible = [(start, end) for start, end in offsets if start < end]
    begin = min((start for start, _ in visible), default=0)
    furthest = max((end for _, end in visible), default=0)
    return [i for i, (start, end) in enumerate(ranges) if start < begin or end > furthest]


def _renumber(indices: Sequence[int], kept: Sequence[int]) -> tuple[int, ...]:
    new = {old: i for i, old in enumerate(kept)}
    return tuple(new.get(i, NONE) for i in indices)


def _require_order(spans: Spans, question_start: int, rationale_start: int) -> None:
    length = max((span.end for span in (*spans.steps, *spans.keys) if span.text == "question"), default=0)
    if not 0 <= question_start <= question_start + length <= rationale_start:
        raise SpanError(
            f"Expected a text with the question and then the rationale; got question_start={question_start}, "
            f"question spans of {length} characters, and rationale_start={rationale_start}. Tokens would be given to "
            "the wrong spans; pass where each of the two starts in the text that was tokenized."
        )


def _require_offsets(offsets: Sequence[tuple[int, int]]) -> None:
    latest = 0
    for token, pair in enumerate(offsets):
        if len(pair) != 2 or not isinstance(pair[0], int) or not isinstance(pair[1], int):
            raise SpanError(
                f"Expected a (start, end) pair of integers for each token; got {str(pair)[:60]} for token {token}. Its "
                "span cannot be found; pass the offset_mapping of one text, as a list."
            )
        start, end = pair
        if start >= end:
            continue
        if start < latest:
            raise SpanError(
                f"Expected offsets in the order of the text; got ({start}, {end}) for token {token}, after one that "
                f"starts at {latest}. Tokens would be given to the wrong spans; shift the offsets of texts that were "
                "tokenized one by one to the joined text."
            )
        latest = start

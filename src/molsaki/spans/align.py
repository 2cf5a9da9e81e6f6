"""From spans of characters to a tokenizer's own tokens.

Both models read `prompt + question + suffix` and then the rationale, each with its own prompt and vocabulary. What
they share are the spans; each side maps them to its tokens through offsets, segment by segment, and what one side
lost (to truncation, or to a token that swallowed two spans) is dropped on both. So stepwise attention has the same
rows and columns on both sides, and nothing is skipped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from molsaki.errors import SpanError
from molsaki.spans.find import Span, Spans, TextName

NONE = -1
"""The index of a token that belongs to no step, or to no key."""


@dataclass(frozen=True, slots=True)
class PieceAlignment:
    """What each token of one segment belongs to.

    Attributes:
        step_of_token: for each token the index of its step in `Spans.steps`, or -1.
        key_of_token: for each token the index of its key in `Spans.keys`, or -1.
        cut_steps: the steps whose end, or start, lies beyond the segment's tokens.
        cut_keys: the keys of which that is true.
    """

    step_of_token: tuple[int, ...]
    key_of_token: tuple[int, ...]
    cut_steps: tuple[int, ...] = ()
    cut_keys: tuple[int, ...] = ()

    @classmethod
    def outside(cls, n_tokens: int) -> PieceAlignment:
        """Tokens that belong to nothing: a prompt, a separator, special tokens."""
        return cls((NONE,) * n_tokens, (NONE,) * n_tokens)


@dataclass(frozen=True, slots=True)
class SpanAlignment:
    """What each token of a whole sequence belongs to, and which spans have none.

    Attributes:
        step_of_token: for each token the index of its step, or -1.
        key_of_token: for each token the index of its key, or -1.
        n_steps: how many steps the example has, with the missing ones.
        n_keys: how many keys the example has, with the missing ones.
        missing_steps: the steps that have no token here or were cut by truncation, in order; no token names them.
        missing_keys: the keys of which that is true.
    """

    step_of_token: tuple[int, ...]
    key_of_token: tuple[int, ...]
    n_steps: int
    n_keys: int
    missing_steps: tuple[int, ...] = ()
    missing_keys: tuple[int, ...] = ()

    @property
    def tokens_of_steps(self) -> tuple[int, ...]:
        """How many tokens each step has; 0 for a missing one."""
        counts = Counter(self.step_of_token)
        return tuple(counts[step] for step in range(self.n_steps))


@dataclass(frozen=True, slots=True)
class CommonSpans:
    """The spans that all sides have, as indices into `Spans`: the rows and columns of attention to compare."""

    steps: tuple[int, ...]
    keys: tuple[int, ...]
    dropped_steps: tuple[int, ...]
    dropped_keys: tuple[int, ...]


def tokens_of_piece(
    spans: Spans, which: TextName, offsets: Sequence[tuple[int, int]], shift: int = 0, *, whole: bool = False
) -> PieceAlignment:
    """Say for each token of one tokenized segment which step and which key it belongs to.

    A token belongs to the span it overlaps; spans start and end with visible characters, so a space that a
    tokenizer puts in front of a word (`Ġ12`, `▁12`) is no overlap. A token that two spans overlap goes to the one
    with more characters in it, and to the first if they have as many. Tokens that share one character (byte-level
    and byte-fallback pieces) all belong to its span; one of zero width continues the token before it.

    Args:
        spans: the example's spans.
        which: the text that the segment holds.
        offsets: a (start, end) pair of characters for each token that was kept, as the tokenizer returned them.
        shift: where the text starts in what was tokenized: the length of a prefix in the same segment.
        whole: it is known that no token was cut off. Else a span that reaches beyond the tokens counts as cut, also
            one whose last letter the tokenizer composed with its accent, which is then in no offset.

    Raises:
        SpanError: offsets go backwards, as those of tokens from several calls would.
    """
    steps, cut_steps = _assign(spans.steps, which, offsets, shift)
    keys, cut_keys = _assign(spans.keys, which, offsets, shift)
    return PieceAlignment(steps, keys, () if whole else cut_steps, () if whole else cut_keys)


def join_pieces(spans: Spans, pieces: Iterable[PieceAlignment]) -> SpanAlignment:
    """Put a sequence's segments together and find the spans that it lacks.

    A span that is cut by truncation counts as missing as a whole: half a number is another number.

    Args:
        spans: the example's spans.
        pieces: the segments in the sequence's order; `PieceAlignment.outside` for what holds neither text. A segment
            that truncation removed altogether is left out.
    """
    steps: list[int] = []
    keys: list[int] = []
    cut_steps: set[int] = set()
    cut_keys: set[int] = set()
    for piece in pieces:
        steps += piece.step_of_token
        keys += piece.key_of_token
        cut_steps.update(piece.cut_steps)
        cut_keys.update(piece.cut_keys)
    missing_steps = tuple(sorted(set(range(spans.n_steps)).difference(steps) | cut_steps))
    missing_keys = tuple(sorted(set(range(spans.n_keys)).difference(keys) | cut_keys))
    return SpanAlignment(
        _without(steps, missing_steps),
        _without(keys, missing_keys),
        spans.n_steps,
        spans.n_keys,
        missing_steps,
        missing_keys,
    )


def common_spans(*sides: SpanAlignment) -> CommonSpans:
    """Find the spans that every side has; the others are to be dropped everywhere.

    Raises:
        SpanError: the sides do not have the same number of steps and keys, so they are not of one example.
    """
    shapes = {(side.n_steps, side.n_keys) for side in sides}
    if len(shapes) != 1:
        raise SpanError(
            f"Expected all sides to have the same steps and keys, got (steps, keys) {sorted(shapes)}. Their spans "
            f"are of different texts or rules and cannot be compared; find the spans once and map them twice."
        )
    n_steps, n_keys = shapes.pop()
    dropped_steps = sorted({step for side in sides for step in side.missing_steps})
    dropped_keys = sorted({key for side in sides for key in side.missing_keys})
    return CommonSpans(
        tuple(sorted(set(range(n_steps)).difference(dropped_steps))),
        tuple(sorted(set(range(n_keys)).difference(dropped_keys))),
        tuple(dropped_steps),
        tuple(dropped_keys),
    )


def keep_spans(tokens: SpanAlignment, common: CommonSpans) -> SpanAlignment:
    """Drop all spans but the common ones and number those anew from 0, in their order."""
    return SpanAlignment(
        _renumbered(tokens.step_of_token, common.steps),
        _renumbered(tokens.key_of_token, common.keys),
        len(common.steps),
        len(common.keys),
    )


def align(teacher: SpanAlignment, student: SpanAlignment) -> tuple[SpanAlignment, SpanAlignment, CommonSpans]:
    """Drop on both sides what either lacks; returns both sides renumbered, and which spans stayed.

    A teacher's attention that was stored with all its spans is brought to the same shape by `common.steps` and
    `common.keys`: `attention_LSK[:, common.steps][:, :, common.keys]`.

    Raises:
        SpanError: the two sides are not of one example.
    """
    common = common_spans(teacher, student)
    return keep_spans(teacher, common), keep_spans(student, common), common


def _assign(
    spans: Sequence[Span], which: TextName, offsets: Sequence[tuple[int, int]], shift: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each token its span's index, and the spans that reach beyond the tokens; one sweep over both."""
    members = [(i, span.start + shift, span.end + shift) for i, span in enumerate(spans) if span.text == which]
    assigned: list[int] = []
    first = 0
    begin: int | None = None
    latest = furthest = 0
    for start, end in offsets:
        if end <= start:
            assigned.append(assigned[-1] if assigned and 0 < start == furthest else NONE)
            continue
        if start < latest:
            raise SpanError(
                f"Expected offsets that go forwards, got ({start}, {end}) after a token that starts at {latest}. "
                f"Tokens would be given to the wrong spans; map the segments of a sequence one at a time."
            )
        begin = start if begin is None else begin
        latest, furthest = start, max(furthest, end)
        while first < len(members) and members[first][2] <= start:
            first += 1
        if first == len(members) or members[first][1] >= end:
            assigned.append(NONE)
        else:
            assigned.append(_most_overlapped(members, first, start, end))
    if begin is None:
        return tuple(assigned), tuple(i for i, _, _ in members)
    cut = tuple(i for i, start, end in members if end > furthest or start < begin)
    return tuple(assigned), cut


def _most_overlapped(members: Sequence[tuple[int, int, int]], first: int, start: int, end: int) -> int:
    """The span with the most characters in a token that overlaps at least the span at `first`."""
    best = members[first][0]
    most = min(end, members[first][2]) - max(start, members[first][1])
    for i in range(first + 1, len(members)):
        index, span_start, span_end = members[i]
        if span_start >= end:
            break
        overlap = min(end, span_end) - span_start
        if overlap > most:
            best, most = index, overlap
    return best


def _without(indices: Sequence[int], missing: Sequence[int]) -> tuple[int, ...]:
    if not missing:
        return tuple(indices)
    gone = frozenset(missing)
    return tuple(NONE if i in gone else i for i in indices)


def _renumbered(indices: Sequence[int], kept: Sequence[int]) -> tuple[int, ...]:
    new = {old: i for i, old in enumerate(kept)}
    return tuple(new.get(i, NONE) for i in indices)

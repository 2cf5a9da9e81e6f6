"""Spans are mapped to tokens by the documented rules, and what one side lost is dropped on both."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.errors import SpanError
from molsaki.spans.align import (
    PieceAlignment,
    SpanAlignment,
    align,
    common_spans,
    join_pieces,
    keep_spans,
    tokens_of_piece,
)
from molsaki.spans.find import Span, Spans, find_spans

QUESTION = "He had 12 of 1,234?"
RATIONALE = "So 12. Then 5."
SPANS = find_spans(QUESTION, RATIONALE)
Offsets = list[tuple[int, int]]


def by_word(text: str) -> Offsets:
    """One token a word, with the space before it, as GPT-2 has."""
    offsets, start = [], 0
    for i, character in enumerate([*text[1:], " "], start=1):
        if character == " ":
            offsets.append((start, i))
            start = i
    return offsets


def by_character(text: str) -> Offsets:
    return [(i, i + 1) for i in range(len(text))]


def whole(question: Offsets, rationale: Offsets) -> SpanAlignment:
    return join_pieces(
        SPANS,
        [tokens_of_piece(SPANS, "question", question), tokens_of_piece(SPANS, "rationale", rationale)],
    )


def test_a_space_in_front_is_no_overlap() -> None:
    piece = tokens_of_piece(SPANS, "rationale", by_word(RATIONALE))
    #                                   So 12. Then 5.
    assert piece.step_of_token == (1, 1, 2, 2)
    assert piece.key_of_token == (-1, 2, -1, 3)
    assert (piece.cut_steps, piece.cut_keys) == ((), ())


def test_all_tokens_of_a_split_number_belong_to_its_key() -> None:
    piece = tokens_of_piece(SPANS, "question", by_character(QUESTION))
    assert [i for i, key in enumerate(piece.key_of_token) if key == 1] == list(range(13, 18))
    assert set(piece.step_of_token) == {0}


def test_a_text_inside_a_longer_segment() -> None:
    prefix = "explain: 99 "
    offsets = by_character(prefix + QUESTION + " 7 Answer:")
    piece = tokens_of_piece(SPANS, "question", offsets, shift=len(prefix))
    assert piece.step_of_token[: len(prefix)] == (-1,) * len(prefix)
    inner = tokens_of_piece(SPANS, "question", by_character(QUESTION))
    assert piece.key_of_token[len(prefix) : len(prefix) + len(QUESTION)] == inner.key_of_token
    assert set(piece.key_of_token[len(prefix) + len(QUESTION) :]) == {-1}


def test_a_token_over_two_spans_goes_to_the_larger_part_and_ties_to_the_first() -> None:
    spans = Spans((Span("question", 0, 9),), (Span("question", 0, 2), Span("question", 3, 6), Span("question", 7, 8)))
    assert tokens_of_piece(spans, "question", [(0, 6), (6, 9)]).key_of_token == (1, 2)
    assert tokens_of_piece(spans, "question", [(1, 4), (4, 9)]).key_of_token == (0, 1)


def test_tokens_that_share_a_character_all_belong_to_its_span() -> None:
    spans = find_spans("q", "a 😀 b. Next ☃", ["☃ q", "b"])
    shared: Offsets = [
        (0, 1),
        (1, 2),
        (2, 3),
        (2, 3),
        (2, 3),
        (2, 3),
        (3, 5),
        (5, 6),
        (6, 11),
        (11, 13),
        (12, 13),
        (13, 13),
    ]
    piece = tokens_of_piece(spans, "rationale", shared)
    assert piece.step_of_token == (1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2)


def test_special_tokens_belong_to_nothing() -> None:
    piece = tokens_of_piece(SPANS, "rationale", [(0, 0), *by_word(RATIONALE), (0, 0)])
    assert piece.step_of_token == (-1, 1, 1, 2, 2, -1)
    assert PieceAlignment.outside(2) == PieceAlignment((-1, -1), (-1, -1))


def test_both_sides_have_the_same_spans_whatever_the_tokens() -> None:
    words = whole(by_word(QUESTION), by_word(RATIONALE))
    characters = whole(by_character(QUESTION), by_character(RATIONALE))
    for side in (words, characters):
        assert set(side.step_of_token) - {-1} == {0, 1, 2}
        assert set(side.key_of_token) - {-1} == {0, 1, 2, 3}
        assert (side.missing_steps, side.missing_keys) == ((), ())


def test_truncation_drops_a_cut_span_as_a_whole_and_says_so() -> None:
    side = whole(by_character(QUESTION), by_character(RATIONALE)[:4])  # "So 1" of "So 12."
    assert side.missing_steps == (1, 2)
    assert side.missing_keys == (2, 3)
    assert side.step_of_token == (0,) * len(QUESTION) + (-1,) * 4
    assert set(side.key_of_token) == {-1, 0, 1}


def test_a_composed_letter_at_the_end_is_no_truncation_where_nothing_was_cut() -> None:
    """A tokenizer that composes letters gives `e` + accent the offset of the `e` alone."""
    text = "So 12. Un cafe\u0301"
    spans = find_spans(QUESTION, text)
    question = tokens_of_piece(spans, "question", by_word(QUESTION))
    for whole_, missing in ((False, (2,)), (True, ())):
        rationale = tokens_of_piece(spans, "rationale", by_character(text)[:-1], whole=whole_)
        assert join_pieces(spans, [question, rationale]).missing_steps == missing


def test_truncation_from_the_left() -> None:
    side = whole(by_character(QUESTION)[8:], by_character(RATIONALE))  # "2 of 1,234?" of "He had 12 of …"
    assert (side.missing_steps, side.missing_keys) == ((0,), (0,))


def test_a_segment_that_is_gone_altogether() -> None:
    without = join_pieces(SPANS, [tokens_of_piece(SPANS, "question", by_word(QUESTION))])
    empty = whole(by_word(QUESTION), [])
    assert without == empty
    assert without.missing_steps == (1, 2)


def test_a_span_swallowed_by_a_token_is_missing() -> None:
    spans = find_spans("q", "10:30 is late")
    side = join_pieces(
        spans, [tokens_of_piece(spans, "question", [(0, 1)]), tokens_of_piece(spans, "rationale", [(0, 5), (5, 13)])]
    )
    assert side.missing_keys == (1,)
    assert side.key_of_token == (-1, 0, -1)


def test_what_one_side_lost_is_dropped_on_both() -> None:
    teacher = whole(by_word(QUESTION), by_word(RATIONALE))
    student = whole(by_character(QUESTION)[8:], by_character(RATIONALE))
    kept_teacher, kept_student, common = align(teacher, student)
    assert (common.steps, common.dropped_steps) == ((1, 2), (0,))
    assert (common.keys, common.dropped_keys) == ((1, 2, 3), (0,))
    for side in (kept_teacher, kept_student):
        assert (side.n_steps, side.n_keys) == (2, 3)
        assert set(side.step_of_token) == {-1, 0, 1}
        assert set(side.key_of_token) == {-1, 0, 1, 2}
        assert (side.missing_steps, side.missing_keys) == ((), ())
    assert kept_teacher.key_of_token == (-1, -1, -1, -1, 0, -1, 1, -1, 2)


def test_nothing_lost_changes_nothing() -> None:
    side = whole(by_word(QUESTION), by_word(RATIONALE))
    assert align(side, side)[:2] == (side, side)


def test_sides_of_two_examples_are_refused() -> None:
    with pytest.raises(SpanError, match="same steps and keys"):
        common_spans(SpanAlignment((), (), 2, 3), SpanAlignment((), (), 2, 4))


def test_offsets_that_go_backwards_are_refused() -> None:
    with pytest.raises(SpanError, match="forwards"):
        tokens_of_piece(SPANS, "rationale", [*by_word(RATIONALE), *by_word(RATIONALE)])


@st.composite
def tokenizations(draw: st.DrawFn) -> tuple[Spans, Offsets, Offsets]:
    text = draw(st.text(alphabet="ab 12.,\n", max_size=40))
    spans = find_spans("q", text)

    def cut() -> Offsets:
        ends = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=12))) if len(text) > 1 else []
        bounds = [0, *ends, len(text)]
        return [(a, b) for a, b in pairwise(bounds) if a < b][: draw(st.integers(0, 14))]

    return spans, cut(), cut()


@given(tokenizations())
def test_any_two_tokenizations_are_aligned(case: tuple[Spans, Offsets, Offsets]) -> None:
    spans, *both = case
    question = tokens_of_piece(spans, "question", [(0, 1)])
    sides = [join_pieces(spans, [question, tokens_of_piece(spans, "rationale", offsets)]) for offsets in both]
    for side, offsets in zip(sides, both, strict=True):
        assert len(side.step_of_token) == len(side.key_of_token) == len(offsets) + 1
        assert set(side.step_of_token) - {-1} == set(range(spans.n_steps)) - set(side.missing_steps)
        assert set(side.key_of_token) - {-1} == set(range(spans.n_keys)) - set(side.missing_keys)
        for (start, end), key in zip(offsets, side.key_of_token[1:], strict=True):
            if key >= 0:
                assert start < spans.keys[key].end
                assert spans.keys[key].start < end
    teacher, student, common = align(sides[0], sides[1])
    assert (
        (teacher.n_steps, teacher.n_keys) == (student.n_steps, student.n_keys) == (len(common.steps), len(common.keys))
    )
    assert sorted(common.steps + common.dropped_steps) == list(range(spans.n_steps))
    for side in (teacher, student):
        assert set(side.step_of_token) - {-1} == set(range(side.n_steps))
        assert set(side.key_of_token) - {-1} == set(range(side.n_keys))
        assert keep_spans(side, common_spans(side)) == side

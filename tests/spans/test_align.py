"""Spans are aligned with tokens by the documented rules, and what has no token is reported."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.errors import SpanError
from molsaki.spans.align import NONE, Alignment, align_spans
from molsaki.spans.find import Span, Spans, find_spans
from molsaki.spans.views import View

QUESTION = "He had 12 of 1,234?"
RATIONALE = "So 12. Then 5."
SPANS = find_spans(QUESTION, RATIONALE)
Offsets = list[tuple[int, int]]


def by_word(text: str, shift: int = 0) -> Offsets:
    """One token a word, with the space before it, as GPT-2 has."""
    offsets, start = [], 0
    for i, character in enumerate([*text[1:], " "], start=1):
        if character == " ":
            offsets.append((start + shift, i + shift))
            start = i
    return offsets


def by_character(text: str, shift: int = 0) -> Offsets:
    return [(i + shift, i + shift + 1) for i in range(len(text))]


def whole(question: Offsets, rationale: Offsets) -> Alignment:
    """The question and the rationale above, tokenized one by one, with nothing between them."""
    shift = len(QUESTION)
    offsets = question + [(start + shift, end + shift) for start, end in rationale]
    return align_spans(SPANS, offsets, question_start=0, rationale_start=shift)


def of_question(spans: Spans, offsets: Offsets) -> Alignment:
    return align_spans(spans, offsets, question_start=0, rationale_start=100)


def test_a_space_in_front_is_no_overlap() -> None:
    side = whole([], by_word(RATIONALE))
    #                                  So 12. Then 5.
    assert side.step_of_token == (1, 1, 2, 2)
    assert side.key_of_token == (NONE, 2, NONE, 3)


def test_all_tokens_of_a_split_number_belong_to_its_key() -> None:
    side = whole(by_character(QUESTION), [])
    assert [i for i, key in enumerate(side.key_of_token) if key == 1] == list(range(13, 18))
    assert set(side.step_of_token) == {0}


def test_the_text_around_question_and_rationale_belongs_to_nothing() -> None:
    prefix, between = "explain: 99 ", " 7 Answer:"
    text = prefix + QUESTION + between + RATIONALE + " 8."
    question, rationale = len(prefix), len(prefix + QUESTION + between)
    side = align_spans(SPANS, by_character(text), question_start=question, rationale_start=rationale)
    inner = whole(by_character(QUESTION), by_character(RATIONALE))
    for kind in ("step_of_token", "key_of_token"):
        found, expected = getattr(side, kind), getattr(inner, kind)
        assert found[question : question + len(QUESTION)] == expected[: len(QUESTION)]
        assert found[rationale : rationale + len(RATIONALE)] == expected[len(QUESTION) :]
        assert set(found[:question] + found[question + len(QUESTION) : rationale] + found[-3:]) == {NONE}


def test_a_token_over_two_spans_goes_to_the_larger_part_and_ties_to_the_first() -> None:
    spans = Spans((Span("question", 0, 9),), (Span("question", 0, 2), Span("question", 3, 6), Span("question", 7, 8)))
    assert of_question(spans, [(0, 6), (6, 9)]).key_of_token == (1, 2)
    assert of_question(spans, [(1, 4), (4, 9)]).key_of_token == (NONE, 1), "key 0 is cut at its start"
    uncut = align_spans(spans, [(1, 4), (4, 9)], question_start=0, rationale_start=9, truncated=False)
    assert uncut.key_of_token == (0, 1)


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
    offsets = [(0, 1), *((start + 1, end + 1) for start, end in shared)]
    side = align_spans(spans, offsets, question_start=0, rationale_start=1)
    assert side.step_of_token == (0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2)


def test_special_tokens_belong_to_nothing() -> None:
    offsets = [(0, 0), *by_word(RATIONALE, 19), (0, 0)]
    side = align_spans(SPANS, offsets, question_start=0, rationale_start=19)
    assert side.step_of_token == (NONE, 1, 1, 2, 2, NONE)
    assert align_spans(SPANS, [(0, 0), (0, 0)], question_start=0, rationale_start=19).missing_steps == (0, 1, 2)


def test_two_tokenizers_have_the_same_spans() -> None:
    words = whole(by_word(QUESTION), by_word(RATIONALE))
    characters = whole(by_character(QUESTION), by_character(RATIONALE))
    for side in (words, characters):
        assert set(side.step_of_token) - {NONE} == {0, 1, 2}
        assert set(side.key_of_token) - {NONE} == {0, 1, 2, 3}
        assert (side.n_steps, side.n_keys, side.missing_steps, side.missing_keys) == (3, 4, (), ())
        assert side.tokens_of_steps == tuple(side.step_of_token.count(step) for step in range(3))


def test_a_truncated_span_is_missing_as_a_whole() -> None:
    side = whole(by_character(QUESTION), by_character(RATIONALE)[:4])  # "So 1" of "So 12."
    assert side.missing_steps == (1, 2)
    assert side.missing_keys == (2, 3)
    assert side.step_of_token == (0,) * len(QUESTION) + (NONE,) * 4
    assert set(side.key_of_token) == {NONE, 0, 1}
    assert side.tokens_of_steps == (len(QUESTION), 0, 0)


def test_a_composed_letter_at_the_end_is_no_truncation_where_nothing_was_cut() -> None:
    """A tokenizer that composes letters gives `e` + accent the offset of the `e` alone."""
    text = "So 12. Un cafe\u0301"
    spans = find_spans(QUESTION, text)
    shift = len(QUESTION)
    offsets = by_word(QUESTION) + by_character(text, shift)[:-1]
    for truncated, missing in ((True, (2,)), (False, ())):
        side = align_spans(spans, offsets, question_start=0, rationale_start=shift, truncated=truncated)
        assert side.missing_steps == missing


def test_truncation_from_the_left() -> None:
    side = whole(by_character(QUESTION)[8:], by_character(RATIONALE))  # "2 of 1,234?" of "He had 12 of …"
    assert (side.missing_steps, side.missing_keys) == ((0,), (0,))


BEFORE_KEYS = View("before-keys", "keys").spans(QUESTION, RATIONALE, "numbers")


@pytest.mark.parametrize("tokenize", [by_word, by_character])
def test_the_row_of_a_key_is_the_token_that_predicts_it(tokenize) -> None:
    offsets = tokenize(QUESTION) + tokenize(RATIONALE, len(QUESTION))
    aligned = align_spans(BEFORE_KEYS, offsets, question_start=0, rationale_start=len(QUESTION))
    assert (aligned.n_steps, aligned.n_keys) == (2, 4)  # 12 and 5; 12 and 1,234 of the question too
    for step in range(2):
        (token,) = (i for i, some in enumerate(aligned.step_of_token) if some == step)
        assert aligned.key_of_token[token] != 2 + step
        assert aligned.key_of_token[token + 1] == 2 + step


def test_a_key_at_the_very_first_token_has_no_row() -> None:
    spans = Spans((Span("rationale", 0, 1), Span("rationale", 4, 5)), (Span("rationale", 0, 1),), before=True)
    aligned = align_spans(spans, [(0, 1), (1, 3), (3, 5)], question_start=0, rationale_start=0)
    assert aligned.missing_steps == (0,)
    assert aligned.step_of_token == (NONE, 1, NONE)


def test_numbers_side_by_side_have_a_row_each() -> None:
    spans = View("before-keys", "keys").spans("How many?", "12,34 5", "numbers")
    aligned = align_spans(spans, by_character("How many?12,34 5"), question_start=0, rationale_start=9)
    assert aligned.n_steps == len(spans.keys)
    assert not aligned.missing_steps


@pytest.mark.parametrize("truncated", [True, False])
def test_a_rationale_without_any_token_is_missing(truncated: bool) -> None:
    offsets = by_word(QUESTION)
    side = align_spans(SPANS, offsets, question_start=0, rationale_start=len(QUESTION), truncated=truncated)
    assert (side.missing_steps, side.missing_keys) == ((1, 2), (2, 3))


def test_a_span_swallowed_by_a_token_is_missing() -> None:
    spans = find_spans("q", "10:30 is late")
    side = align_spans(spans, [(0, 1), (1, 6), (6, 14)], question_start=0, rationale_start=1)
    assert side.missing_keys == (1,)
    assert side.key_of_token == (NONE, 0, NONE)


def test_kept_spans_are_numbered_from_0_and_their_tokens_stay() -> None:
    side = whole(by_word(QUESTION), by_word(RATIONALE))
    kept = side.keep([1, 2], [1, 3])
    assert (kept.n_steps, kept.n_keys, kept.missing_steps, kept.missing_keys) == (2, 2, (), ())
    for found, all_, which in (
        (kept.step_of_token, side.step_of_token, [1, 2]),
        (kept.key_of_token, side.key_of_token, [1, 3]),
    ):
        assert found == tuple(which.index(i) if i in which else NONE for i in all_)
    assert side.keep(range(3), range(4)) == side


@pytest.mark.parametrize(
    ("question_start", "rationale_start"), [(0, len(QUESTION) - 1), (20, 0), (-1, 30), (5, 5 + len(QUESTION) - 1)]
)
def test_a_rationale_found_before_the_questions_end_is_refused(question_start: int, rationale_start: int) -> None:
    """As `text.index(rationale)` gives it where the prompt's few-shot examples have the same words."""
    with pytest.raises(SpanError) as error:
        align_spans(SPANS, by_character("x" * 60), question_start=question_start, rationale_start=rationale_start)
    assert f"question_start={question_start}" in str(error.value)
    assert f"rationale_start={rationale_start}" in str(error.value)


def test_offsets_that_were_not_shifted_are_refused() -> None:
    with pytest.raises(SpanError) as error:
        align_spans(SPANS, [*by_word(QUESTION), *by_word(RATIONALE)], question_start=0, rationale_start=19)
    assert "(0, 2)" in str(error.value)


@pytest.mark.parametrize(
    "offsets",
    [[[(0, 2), (2, 4)], [(0, 2), (2, 4)]], [[(0, 2), (2, 4), (4, 5)]], [(0, None)], [(0,)], [("0", "1")]],
    ids=["a batch of two", "a batch of one", "no end", "one number", "text"],
)
def test_offsets_of_a_batch_are_refused(offsets: list[object]) -> None:
    with pytest.raises(SpanError):
        align_spans(SPANS, offsets, question_start=0, rationale_start=19)  # type: ignore[arg-type]


@st.composite
def tokenizations(draw: st.DrawFn) -> tuple[Spans, Offsets]:
    text = draw(st.text(alphabet="ab 12.,\n", max_size=40))
    ends = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=12))) if len(text) > 1 else []
    pieces = [(start + 1, end + 1) for start, end in pairwise([0, *ends, len(text)]) if start < end]
    return find_spans("q", text), [(0, 1), *pieces[: draw(st.integers(0, 14))]]


@given(tokenizations())
def test_any_tokenization_is_aligned(case: tuple[Spans, Offsets]) -> None:
    spans, offsets = case
    side = align_spans(spans, offsets, question_start=0, rationale_start=1)
    kinds = (
        (spans.steps, side.step_of_token, side.missing_steps, side.n_steps),
        (spans.keys, side.key_of_token, side.missing_keys, side.n_keys),
    )
    for found, span_of_token, missing, count in kinds:
        assert (len(span_of_token), count) == (len(offsets), len(found))
        assert set(span_of_token) - {NONE} == set(range(count)) - set(missing)
        shift = {"question": 0, "rationale": 1}
        for (start, end), i in zip(offsets, span_of_token, strict=True):
            overlaps = {
                j: min(end, span.end + shift[span.text]) - max(start, span.start + shift[span.text])
                for j, span in enumerate(found)
            }
            if i != NONE:
                assert overlaps[i] == max(overlaps.values()) > 0
            else:
                best = max(overlaps, key=lambda j: overlaps[j], default=NONE)
                assert best == NONE or overlaps[best] <= 0 or best in missing
    steps, keys = ([i for i in range(n) if i not in missing] for _, _, missing, n in kinds)
    kept = side.keep(steps, keys)
    assert set(kept.step_of_token) - {NONE} == set(range(len(steps)))
    assert set(kept.key_of_token) - {NONE} == set(range(len(keys)))

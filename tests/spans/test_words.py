"""Words as rows and columns: disjoint, in order, and all of the text that is not space."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.spans.views import HEADS, STEPS, VIEWS, WORDS
from molsaki.spans.words import find_words

QUESTION = "How many?"


@pytest.mark.parametrize(
    ("rationale", "words"),
    [
        ("He pays $1,234.50 for 3 pens.", ["He", "pays", "$", "1,234.50", "for", "3", "pens", "."]),
        ("1, 2 and 3.", ["1", ",", "2", "and", "3", "."]),
        ("x2+3.5=y_1", ["x", "2", "+", "3.5", "=", "y", "_", "1"]),
        ("don’t --", ["don", "’", "t", "-", "-"]),
        ("cafe\u0301 \u00e9t\u00e9", ["cafe\u0301", "\u00e9t\u00e9"]),
        ("二加三是5。", ["二加三是", "5", "。"]),
        ("", []),
    ],
)
def test_words(rationale: str, words: list[str]) -> None:
    spans = find_words(QUESTION, rationale)
    assert [span.of(QUESTION, rationale) for span in spans.steps] == words
    assert [span.of(QUESTION, rationale) for span in spans.keys] == ["How", "many", "?", *words]
    assert [span.text for span in spans.keys] == ["question"] * 3 + ["rationale"] * len(words)


@given(st.text(), st.text())
def test_words_are_disjoint_in_order_and_cover_all_that_is_not_space(question: str, rationale: str) -> None:
    spans = find_words(question, rationale)
    assert spans.steps == tuple(span for span in spans.keys if span.text == "rationale")
    for name, text in (("question", question), ("rationale", rationale)):
        found = [span for span in spans.keys if span.text == name]
        covered = [place for span in found for place in range(span.start, span.end)]
        assert covered == sorted(set(covered))
        assert all(span.start < span.end for span in found)
        assert {place for place, sign in enumerate(text) if not sign.isspace()} == set(covered)
    assert list(spans.keys) == sorted(spans.keys, key=lambda span: (span.text == "rationale", span.start))


def test_views_are_three() -> None:
    assert list(VIEWS.values()) == [STEPS, HEADS, WORDS]
    assert all(VIEWS[view.name] is view for view in VIEWS.values())

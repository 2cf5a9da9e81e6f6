"""Steps by the name of their rule, and that they are the same steps wherever they are found."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.errors import SpanError
from molsaki.spans.find import find_spans
from molsaki.spans.steps import StepRule, step_spans
from molsaki.spans.text import Text

TRACE = "Okay. Six boxes.\nEach has 7.\n\nSo 6*7 = 42. Wait.\n---\n\n  \nYes, 42.\n"


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("sentences", ["Okay.", "Six boxes.", "Each has 7.", "So 6*7 = 42.", "Wait.\n---", "Yes, 42."]),
        ("lines", ["Okay. Six boxes.", "Each has 7.", "So 6*7 = 42. Wait.\n---", "Yes, 42."]),
        ("paragraphs", ["Okay. Six boxes.\nEach has 7.", "So 6*7 = 42. Wait.\n---", "Yes, 42."]),
    ],
)
def test_rules(rule: StepRule, steps: list[str]) -> None:
    assert [TRACE[start:end] for start, end in step_spans(TRACE, rule)] == steps
    assert [span.of("How many?", TRACE) for span in find_spans("How many?", TRACE, steps=rule).steps[1:]] == steps


def test_an_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(SpanError, match="'words'"):
        find_spans("How many?", TRACE, steps="words")  # type: ignore[arg-type]


def test_the_rule_is_part_of_a_texts_hash() -> None:
    hashes = {Text("t", "How many?", TRACE, "numbers", rule).text_hash for rule in get_args(StepRule)}
    assert len(hashes) == 3
    assert Text("t", "How many?", TRACE, "numbers").text_hash in hashes


@given(st.text("a.1 \n\r\t-", max_size=60), st.sampled_from(get_args(StepRule)))
def test_steps_cover_the_visible_text_in_order(text: str, rule: StepRule) -> None:
    spans = step_spans(text, rule)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    covered = "".join(text[start:end] for start, end in spans)
    if any(map(str.isalnum, text)):
        assert "".join(covered.split()) == "".join(text.split())
    else:
        assert spans == []

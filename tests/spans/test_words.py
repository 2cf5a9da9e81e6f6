"""Words as rows and columns: disjoint, in order, and all of the text that is not space."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from molsaki.spans.align import align_spans
from molsaki.spans.find import find_spans
from molsaki.spans.keywords import keyword_spans
from molsaki.spans.views import HEADS, STEPS, VIEWS, WORDS
from molsaki.spans.words import WORD_RULES, find_words

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


def test_views_are_all_rows_and_columns_with_and_without_heads() -> None:
    assert list(VIEWS)[:3] == ["steps", "heads", "words"]
    assert [VIEWS[name] for name in ("steps", "heads", "words")] == [STEPS, HEADS, WORDS]
    assert len({(view.rows, view.columns, view.heads) for view in VIEWS.values()}) == len(VIEWS) == 12
    assert len({view.title for view in VIEWS.values()}) == 12
    assert all(VIEWS[view.name] is view for view in VIEWS.values())


def test_a_view_puts_its_rows_and_columns_together() -> None:
    question, rationale = "Ada has 3 pens.", "She buys 14. So 3 + 14."
    steps, words = find_spans(question, rationale), find_words(question, rationale)
    for view in VIEWS.values():
        spans = view.spans(question, rationale, "numbers")
        numbers = tuple(key for key in steps.keys if key.text == "rationale")
        assert spans.steps == {"steps": steps.steps, "words": words.steps, "before-keys": numbers}[view.rows]
        assert spans.before == (view.rows == "before-keys")
        assert spans.keys == (steps if view.columns == "keys" else words).keys
        assert spans.leading_space == (view.rows == "words" or view.columns == "words")


def test_views_of_other_rows_or_columns_have_other_rules() -> None:
    """Two stores with one fingerprint would be taken for each other."""
    rules = {(view.rows, view.columns): str(view.rules("numbers")) for view in VIEWS.values()}
    assert len(set(rules.values())) == len(rules) == 6
    assert STEPS.rules("numbers") != STEPS.rules("keywords")


@pytest.mark.parametrize("name", ["gpt2", "llama2"])
def test_a_space_of_its_own_belongs_to_the_word_behind_it(name: str, shared_data: Path) -> None:
    """Llama 2 writes ` 12` as `▁`, `1`, `2`; GPT-2 writes the first of two spaces, and a line break, alone."""
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
    question, rationale = "Has he 12 pens\nor\u3000 3?", "He has  12 + 30.5 pens,\n\n 4 each. "
    text = f"Q: {question}\nA: {rationale}"
    encoding = tokenizer(text, return_offsets_mapping=True)
    starts = {"question": text.index(question), "rationale": text.index(rationale)}
    words = find_words(question, rationale)
    side = align_spans(
        words,
        encoding["offset_mapping"],
        question_start=starts["question"],
        rationale_start=starts["rationale"],
    )
    assert (side.missing_steps, side.missing_keys) == ((), ())
    first = {starts[word.text] + word.start: i for i, word in enumerate(words.keys)}
    owned = 0
    for (start, end), row, column in zip(
        encoding["offset_mapping"], side.step_of_token, side.key_of_token, strict=True
    ):
        if start == end or not text[start:end].isspace():
            continue
        in_question = starts["question"] <= start < starts["question"] + len(question)
        behind = len(text) - len(text[end:].lstrip())
        if (in_question or start >= starts["rationale"]) and behind < len(text):
            owned += 1
            assert column == first[behind]
            assert words.keys[column] == words.steps[row] if row >= 0 else in_question
        else:
            assert (row, column) == (-1, -1), "white space of the prompt, or behind the last word"
    assert owned > 4


@pytest.mark.parametrize("name", ["gpt2", "llama2"])
def test_no_token_of_a_number_is_left_out(name: str, shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
    question, rationale = "He has 12 and 1,234.50.", "12 + 1,234.50 = 1246.5."
    encoding = tokenizer(f"{question}\n{rationale}", add_special_tokens=False, return_offsets_mapping=True)
    words = find_words(question, rationale)
    side = align_spans(
        words, encoding["offset_mapping"], question_start=0, rationale_start=len(question) + 1, truncated=False
    )
    without = [text for text, key in zip(encoding.tokens(), side.key_of_token, strict=True) if key == -1]
    assert without in (["Ċ"], ["<0x0A>"]), "only the prompt's own line break belongs to no word"
    assert set(side.key_of_token) - {-1} == set(range(words.n_keys))


def test_a_word_whose_characters_were_cut_off_has_no_token() -> None:
    words = find_words("q", "a 12")
    offsets = [(0, 1), (1, 2), (2, 3)]  # q, a, the space
    for truncated in (True, False):
        side = align_spans(words, offsets, question_start=0, rationale_start=1, truncated=truncated)
        assert (side.step_of_token, side.missing_steps) == ((-1, 0, -1), (1,))


def test_a_space_belongs_to_no_key_of_the_steps_view() -> None:
    """The paper's view is as it was: a space of its own is in a sentence, but never in a key."""
    question, rationale = "Has 12?", "He has 12. And 3."
    offsets = [(i, i + 1) for i in range(len(question + rationale))]
    at = {"question_start": 0, "rationale_start": len(question)}
    side = align_spans(find_spans(question, rationale), offsets, **at)
    spaces = [i for i, letter in enumerate(question + rationale) if letter == " "]
    assert all(side.key_of_token[i] == -1 for i in spaces)
    assert side.step_of_token[spaces[-2]] == -1, "between two sentences"
    words = align_spans(find_words(question, rationale), offsets, **at)
    assert all(words.key_of_token[i] == words.key_of_token[i + 1] != -1 for i in spaces)


def test_the_rules_of_words_have_another_version_than_before() -> None:
    assert WORD_RULES != "1"


@pytest.mark.parametrize("text", ["मछली पानी में", "שָׁלוֹם עוֹלָם", "می‌روم خانه", "naïve café", "cafe\u0301 nai\u0308ve"])
def test_words_of_every_script_have_their_marks(text: str) -> None:
    words = text.split()
    assert [row.of("", text) for row in find_words("", text).steps] == words
    for word in words:
        start = text.index(word)
        assert keyword_spans(text, [word]) == [(start, start + len(word))]
    if len(words[0]) > 3:
        assert keyword_spans(text, [text[:3]]) == [], "not inside a word"

"""Key words as teachers write them, and which of them count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.teacher.keywords import MAX_LENGTH, MAX_NAMED, choose_keywords, parse_keywords, question_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("velp, home", ("velp", "home")),
        ("\n velp,home ; the night.\nQ: What else?", ("velp", "home", "the night")),
        ('"velp", Velp, VELP, `ice cream`', ("velp", "ice cream")),
        ("", ()),
        (" , ,;. \n", ()),
        ("Key words: velp, home\n", ("velp", "home")),
        ("Keywords: velp; night.", ("velp", "night")),
        ("**Key words:** velp, night", ("velp", "night")),
        ("The key words are velp and night, home.", ("velp and night", "home")),
        ("The key words of this question are:\n- velp\n- the night\nThey matter.", ("velp", "the night")),
        ("1. velp\n2. ice cream\n\nQ: 3. other", ("velp", "ice cream")),
        ('["velp", "home"]', ("velp", "home")),
        ("monkey, key, word", ("monkey", "key", "word")),
        ("Key words:", ()),
        ("a" * (MAX_LENGTH + 1) + ", velp", ("velp",)),
        ("<think>\n\n</think>\n\nvelp, home", ("velp", "home")),
        ("<think>\nA velp, or\nkey words: no\n</think>\n\nvelp, home", ("velp", "home")),
        ("<think>\nIt may be velp, home", ()),
        ("velp、家", ("velp", "家")),
        ("velp，家；海", ("velp", "家", "海")),
        ("velp | home", ("velp", "home")),
    ],
)
def test_a_teachers_line_is_read(text, expected):
    assert parse_keywords(text) == expected


def test_a_teacher_that_goes_on_listing_is_bounded():
    assert len(parse_keywords(", ".join(f"word{n}" for n in range(1000)))) == MAX_NAMED


@settings(deadline=None, max_examples=100)
@given(st.text(), st.text(), st.text())
def test_anything_a_teacher_writes_can_be_used(line, question, rationale):
    named = parse_keywords(line)
    chosen = choose_keywords(named, question, rationale)
    assert sorted((*chosen.kept, *chosen.dropped)) == sorted(named)


def test_key_words_that_occur_in_neither_text_are_dropped():
    chosen = choose_keywords(["Velp", "cave", "ice", "Velp"], "Where do velps live?", "It is nice in the Cave.")
    assert chosen.kept == ("Velp", "cave")
    assert chosen.dropped == ("ice",)


def test_question_words_are_content_words():
    found = question_words("Where would you put a t-shirt if you don't want it to get wet?")
    assert found == ("t-shirt", "don't", "wet") or found == ("t-shirt", "wet")
    assert question_words("What is it?") == ()
    assert question_words(f"Does {'字' * (MAX_LENGTH + 1)} float?") == ("float",)
    assert question_words("魚はどこに住んでいますか") == (), "a run of letters without spaces is no word"
    assert question_words("मछली कहाँ रहती है?") == ("मछली", "कहाँ", "रहती"), "with their vowel signs"

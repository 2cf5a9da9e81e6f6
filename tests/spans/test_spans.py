"""Steps and keys are found by the documented rules, on texts as people and models write them."""

from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.errors import SpanError
from molsaki.spans.find import MAX_KEYS, Keys, Span, find_spans
from molsaki.spans.keywords import MAX_KEYWORDS, word_forms

QUESTION = "How many?"


def steps_of(rationale: str) -> list[str]:
    return [span.of(QUESTION, rationale) for span in find_spans(QUESTION, rationale).steps[1:]]


def keys_of(rationale: str, keys: Keys = "numbers") -> list[str]:
    return [span.of(QUESTION, rationale) for span in find_spans(QUESTION, rationale, keys).keys]


SPACED = [
    # SVAMP, written by PaLM
    ["Luke scored 84 points after 2 rounds.", "So he scored 84 points in 2 rounds.", "84 / 2 = 42."],
    ["Dan had 4 dollars.", "99 bars for 3 dollars each will be 99 x 3 = 297 dollars.", "4 - 297 is -293."],
    ["So 7 * x + 6 = 41.", "7 * x = 35.", "x = 35 / 7.", "x = 5."],
    ["So he read 22 * 569 = 12,598 pages.", "3.5 * 60 = 210 flowers grew."],
    # GSM8K
    ["He can use 80*.8=64 feet.", "That gives him16*5=80 planks.", "So he makes 80*1.2=$96."],
    ["If he reserves 160 sq. ft. of space, 240 sq. ft. remain.", "If each takes 80 sq. ft. of it, 3 fit."],
    ["It is 3 ft. * 7 ft. = 21 ft.", "3 * 2 is 6."],
    ["100% / 3 = 33.333...%, which rounds.", "Then 4, 6, 8... seconds pass.", "It ends"],
    ["He is home at 7:50 a.m. and leaves at 8:00 a.m. every day.", "That is 5 p.m.", "He left."],
    ["Mr. and Mrs. Smith paid Dr. Juan $5.20/4 = $1.30.", "Mrs. brown paid Ms. Watson’s $5."],
    ["It is i.e. 0900-0130.", "Therefore, e.g. 5, vs. 3 lbs. of it."],
    ["Let the number of toonies be T.", "Initially there are 5."],
    ["They have P.E. class 50 times.", "That is all."],
    # CommonsenseQA, written by PaLM
    ["The answer must be in the U.S. where eagles live.", "Of the above, only the U.S. has them."],
    ["It is in the southern U.S.", "The rest is not.", "It is in Washington D.C. that he lives."],
    ["The U.S. Civil War.", "The U.S. Congress.", "J. K. Rowling and George W. Bush.", "He read."],
    ["Mt. Rushmore and St. Paul are far.", "St.Paul is too."],
    # punctuation
    ["Wait... what?", "Really?!", "Yes!", "No…", "Well, he has 5...", "6 more"],
    ['"Stop."', 'He said "Really?" he asked.', "(He had 5.)", "“Quite.”", "Next"],
    ["See No. 5 and fig. 2 and Jan. 3.", "The answer is no.", "Never."],
    ["Pens, paper etc. are there.", "Pens etc.", "They are"],
    ["1. First, add 5.", "2. Then halve.", "(3) Done"],
    ["How many?", "Five?", "five."],
    ["No full stop here"],
    ["First. ...", "Then. ..."],
    ["--- first.", "Then"],
    ["end .", "Next .", "go"],
    ["vitamin C.", "So he ate 3 (or 4.)", "Then 5!", "Not 5!=120."],
    # other scripts
    ["राम के पास 5 सेब हैं।", "वह 3 और लेता है॥", "कुल 8"],
    ["كم تفاحة؟", "پھر ۵ سیب۔", "ثلاث"],
    ["Նա ունի 5։", "አምስት።", "ለምን፧", "គាត់មាន ៥។", "Five⁉", "Six‼", "ok"],
]


@pytest.mark.parametrize("steps", SPACED, ids=lambda steps: steps[0])
def test_sentences(steps: list[str]) -> None:
    assert steps_of("  " + " ".join(steps) + " ") == steps


@pytest.mark.parametrize("line_break", ["\n", "\n\n", " \r\n", "\u2028"])
@pytest.mark.parametrize(
    "steps",
    [
        ["Natalia sold 48/2 = 24 clips in May.", "Natalia sold 48+24 = 72 clips altogether."],
        ["48/2 = 24", "48+24 = 72", "#### 72"],
        ["She had to read 5 pages,", "so she read 5 pages"],
        ["1. First", "- second", "Mr.", "Smith"],
    ],
)
def test_a_line_break_ends_a_step(steps: list[str], line_break: str) -> None:
    assert steps_of(line_break.join(steps)) == steps


@pytest.mark.parametrize(
    "steps",
    [
        ["He has 5.", "So he ate 3.", "The rest is 2"],
        ["of apples.", "12 / 3 = 4"],
        ["v2.5 is at www.foo.com in U.S.A. now"],
        ["Ph.D in No.5 or fig.2"],
        ["我有3个。", "你好！", "好"],
        ["彼は「5だ。」", "次は6だ｡", "そう"],
        ['He said "5.', '"She did?', "Yes"],
    ],
)
def test_marks_without_a_space_behind_them(steps: list[str]) -> None:
    assert steps_of("".join(steps)) == steps or steps[0].endswith("5.")


def test_the_question_is_one_step_whatever_its_punctuation() -> None:
    question = ' "There are 10 apples.  Three fall off!\nNow there are X apples."  What is this? \n'
    spans = find_spans(question, "")
    assert spans.steps == (Span("question", 1, len(question.rstrip())),)
    assert (spans.n_steps, spans.n_keys) == (1, 1)


@pytest.mark.parametrize("question", ["", "   ", "...?!", "\n"])
def test_a_question_without_a_word_is_refused(question: str) -> None:
    with pytest.raises(SpanError) as error:
        find_spans(question, "He has 5.")
    assert repr(question) in str(error.value)


@pytest.mark.parametrize("rationale", ["", " \n ", "...", "---"])
def test_a_rationale_without_a_word_has_no_step(rationale: str) -> None:
    assert steps_of(rationale) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7*30.0=210.0", ["7", "30.0", "210.0"]),
        ("1,234 and 12,345,678.50 and 1,00,000", ["1,234", "12,345,678.50", "1,00,000"]),
        ("1, 234 and 1,23 and 175,5", ["1", "234", "1", "23", "175", "5"]),
        ("3.14 and .5 and $.50 and 3. and 3.14.15", ["3.14", ".5", ".50", "3", "3.14", "15"]),
        ("-5 and 7-5 and 7 - 5 and (-11)", ["5", "7", "5", "7", "5", "11"]),
        ("$5, £3.50, 5$, 25%, 5¢", ["5", "3.50", "5", "25", "5"]),
        ("1/2 and 1½", ["1", "2", "1", "½"]),
        ("2nd 2x 10am 120-page 5kg", ["2", "2", "10", "120", "5"]),
        ("x2 A4 mp3 AK47 COVID-19 v2.5 H2O", []),
        ("2x50 and 99 x 3 and 5X3", ["2", "50", "99", "3", "5", "3"]),
        ("because1+1 and him16*5", ["1", "1", "16", "5"]),
        ("F-16 and x-6", ["16", "6"]),
        ("10:30, 2020-01-05", ["10", "30", "2020", "01", "05"]),
        ("٣ and १२ and １２ and 我有3个", ["٣", "१२", "１２", "3"]),
        ("two thirds of twelve", []),
        ("He has 5.So he ate 3.", ["5", "3"]),
    ],
)
def test_numbers(text: str, numbers: list[str]) -> None:
    assert keys_of(text) == numbers


def test_keys_of_both_texts_in_reading_order() -> None:
    question, rationale = "He had 5 of 6?", "5 of 5."
    spans = find_spans(question, rationale)
    assert [(key.text, key.of(question, rationale)) for key in spans.keys] == [
        ("question", "5"),
        ("question", "6"),
        ("rationale", "5"),
        ("rationale", "5"),
    ]


@pytest.mark.parametrize(
    ("text", "keywords", "found"),
    [
        ("The eagles, eagle's EAGLE eagless beagle.", ["eagle"], ["eagles", "eagle", "EAGLE"]),
        ("In St. Paul and St.Paul, Paul", ["St. Paul", "paul"], ["St. Paul", "St.Paul", "Paul"]),
        ("t-shirts and a shirt", ["shirt", "t-shirt"], ["t-shirts", "shirt"]),
        ("a t - shirt", ["t-shirt"], []),
        ("what? what", ["what?"], ["what?"]),
        ("train stations, train\nstation trainstation", ["train station"], ["train stations", "train\nstation"]),
        ("train station", ["train", "station", "train station"], ["train station"]),
        ("carry carries carried carrying carryings", ["carry"], ["carry", "carries", "carried", "carrying"]),
        ("stop stops stopped stopping stoped", ["stop"], ["stop", "stops", "stopped", "stopping", "stoped"]),
        ("moving moved moves mover", ["move"], ["moving", "moved", "moves"]),
        ("boxes box churches heroes", ["box", "church", "hero"], ["boxes", "box", "churches", "heroes"]),
        ("one apple, one story, one box", ["apples", "stories", "boxes"], ["apple", "story", "box"]),
        ("talking to him", ["talk to"], ["talking to"]),
        ("go goes going as", ["go", "a"], ["go"]),
        ("glasses but no glas", ["glass"], ["glasses"]),
        ("don't, won’t and the don", ["don", "won"], ["don"]),
        ("the bank’s ‘banks’", ["bank"], ["bank", "banks"]),
        ("5 1.5 15 5,000", ["5"], ["5"]),
        ("Café CAFÉ cafe\u0301s ﬁre ＦＩＲＥ Straße", ["café", "fire", "STRASSE"], None),
        ("我有苹果吃", ["苹果"], ["苹果"]),
        ("well-being at the ice-cream van", ["well-being", "ice-cream"], ["well-being", "ice-cream"]),
        ("eagle", [], []),
    ],
)
def test_keywords(text: str, keywords: list[str], found: list[str] | None) -> None:
    assert keys_of(text, keywords) == (text.split() if found is None else found)


@pytest.mark.parametrize("keyword", ["", " ", "?!", "a" * 300])
def test_a_keyword_that_can_match_nothing_is_refused(keyword: str) -> None:
    with pytest.raises(SpanError) as error:
        find_spans(QUESTION, "He has 5.", ["apple", keyword])
    assert repr(keyword[:60]) in str(error.value)


def test_too_many_keywords_are_refused() -> None:
    with pytest.raises(SpanError, match=str(MAX_KEYWORDS + 1)):
        find_spans(QUESTION, "", [f"w{i}" for i in range(MAX_KEYWORDS + 1)])


def test_a_bare_word_is_no_sequence_of_keywords() -> None:
    with pytest.raises(SpanError, match=r"\['apple'\]"):
        find_spans(QUESTION, "An apple.", "apple")


def test_a_word_is_a_form_of_itself() -> None:
    for word in ("a", "bus", "news", "tie", "sing", "t2", "été", "yes", "oyo", "ozes", "izes"):
        assert word in word_forms(word)


def test_regular_expressions() -> None:
    assert keys_of("a1 b22 c", re.compile(r"[a-z]\d+ ?")) == ["a1", "b22"]


@pytest.mark.parametrize(
    ("text", "pattern"), [("abc", "x*"), ("a b", r"\s"), ("abc", b"a"), ("a" * (MAX_KEYS + 1), "a")]
)
def test_a_regular_expression_that_finds_no_keys_is_named(text: str, pattern: str | bytes) -> None:
    with pytest.raises(SpanError) as error:
        keys_of(text, re.compile(pattern))  # type: ignore[arg-type]
    assert repr(pattern) in str(error.value)


FRAGMENTS = [
    "He", "ate", "5", "1,234.50", ".5", "7*30.0", "Mr.", "U.S.", "e.g.", ". ", ".", "...", "?", "!", "\n", " ",
    '"', ")", "(", "é", "2nd", "x2", "No.", "。", "—", "$", "A.", "3.", "\u2028", "☃", "cafe\u0301",
]  # fmt: skip
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join) | st.text(max_size=80)


@given(texts, texts, st.sampled_from(["numbers", ("he", "ate", "mr.", "café")]))
def test_spans_are_ordered_disjoint_and_cover_what_they_should(question: str, rationale: str, keys: Keys) -> None:
    question = "Q " + question
    spans = find_spans(question, rationale, keys)
    for found in (spans.steps, spans.keys):
        for which, text in (("question", question), ("rationale", rationale)):
            end = 0
            for span in (span for span in found if span.text == which):
                assert end <= span.start < span.end <= len(text)
                piece = text[span.start : span.end]
                assert piece == piece.strip()
                assert any(c.isalnum() or unicodedata.category(c) == "No" for c in piece)
                end = span.end
        assert [span.text for span in found] == sorted(span.text for span in found)
    assert [step.text for step in spans.steps].count("question") == 1
    covered = {i for step in spans.steps[1:] for i in range(step.start, step.end)}
    if covered:
        assert covered.issuperset(i for i, c in enumerate(rationale) if not c.isspace())
    else:
        assert not any(map(str.isalnum, rationale))


@given(texts)
def test_every_number_is_covered_by_one_key(rationale: str) -> None:
    covered = {i for key in find_spans("Q", rationale).keys for i in range(key.start, key.end)}
    for match in re.finditer(r"(?<![^\W_]-)(?<![^\W_])(?<![^\W_][.,])\d+", rationale):
        assert covered.issuperset(range(*match.span())), match


@pytest.mark.parametrize(
    "part",
    ["(", "1,", "1", "1.", "a.", "A. ", ". ", ".", "\n", ".\"'", " ", "x", "x2", "a b ", "é", "'", "e\u0301",
     "a\u0301\u0301\u0301", "111,", "?! ", "a-"],
)  # fmt: skip
@pytest.mark.parametrize("keys", ["numbers", ("a", "a b", "a b a b a c", "x")], ids=["numbers", "words"])
def test_hostile_text_takes_little_time(part: str, keys: Keys) -> None:
    began = time.process_time()
    find_spans(QUESTION, part * (60_000 // len(part)), keys)
    assert time.process_time() - began < 4

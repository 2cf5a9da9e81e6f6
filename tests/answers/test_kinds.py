"""Every form that answers come in: what it is read as, and that it is never read as another value."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import FilterResult, check_completion

FRUIT = ("plum", "pear", "fig")
NUMBERS = ("8", "12", "16", "24")


def checked(text: str, gold: str, choices: tuple[str, ...] = ()) -> FilterResult:
    return check_completion(Problem("p", "What is it?", gold, gold, choices), Completion(0, text, 1, cut=False))


def read(said: str, choices: tuple[str, ...] = ()) -> float | str | None:
    """What is read behind "The answer is": a number, a choice's text, or None."""
    parsed = parse_answer(f"Count them. The answer is {said}", choices)
    if parsed.status != "ok":
        return None
    return parsed.value if parsed.choice is None else parsed.answer_text


def test_the_shared_cases(shared_data: Path) -> None:
    lines = (shared_data.parent / "cases" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    wrong = []
    for case in map(json.loads, lines):
        result = checked(case["text"], case["gold"], tuple(case["choices"]))
        if result.kept != (case["want"] == "right") or case.get("keeps", "") not in result.rationale:
            wrong.append((case, result))
    assert len(lines) >= 29
    assert wrong == []


# ---- numbers among choices ----


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("12.0.", NUMBERS, "12"),
        ("$12.", NUMBERS, "12"),
        ("(b) 12.00.", NUMBERS, "12"),
        ("that there are 12 plums.", NUMBERS, "12"),
        ("5 + 7 = 12.", NUMBERS, "12"),
        ("$\\frac{24}{2}$.", NUMBERS, "12"),
        ("-12.", NUMBERS, None),
        ("112.", NUMBERS, None),
        ("1/12.", NUMBERS, None),
        ("12/5.", NUMBERS, None),
        ("12.5.", NUMBERS, None),
        ("0.12.", NUMBERS, None),
        ("12 thousand.", NUMBERS, None),
        ("12².", NUMBERS, None),
        ("8:12.", NUMBERS, None),
        ("12 or 16.", NUMBERS, None),
        ("8-12.", NUMBERS, None),
        ("(b) -12.", NUMBERS, None),
        ("(a) 12.", NUMBERS, None),
        ("0.5.", ("1/2", "1/3"), "1/2"),
        ("1500.", ("150", "1,500"), "1,500"),
        ("3.", ("3 hours", "13 hours"), "3 hours"),
        ("13 hours.", ("3 hours", "13 hours"), "13 hours"),
        ("5 km.", ("5 m", "5 km"), "5 km"),
        ("5.", ("5 m", "5 km"), None),
        ("5 g.", ("5 m", "7 km"), None),
        ("50%.", ("0.5", "5"), "0.5"),
    ],
)
def test_numbers_among_choices_are_compared_by_value(said: str, choices: tuple[str, ...], choice: str | None) -> None:
    assert read(said, choices) == choice


@given(
    st.lists(st.integers(1, 999), min_size=2, max_size=5, unique=True), st.sampled_from(["1{}", "{}1", "-{}", "{}/7"])
)
def test_a_number_inside_another_mentions_no_choice(values: list[int], dress: str) -> None:
    said = dress.format(values[0])
    assume(all(Fraction(said) != value for value in values))
    assert read(f"{said}.", tuple(map(str, values))) is None


@given(st.lists(st.integers(1, 99_999), min_size=2, max_size=5, unique=True), st.sampled_from(["{}", "{}.0", "{:,}"]))
def test_a_number_names_the_choice_of_its_value(values: list[int], dress: str) -> None:
    assert read(f"{dress.format(values[0])}.", tuple(map(str, values))) == str(values[0])


# ---- braces ----

LEAVES = st.integers(1, 9).map(lambda n: (str(n), Fraction(n)))
Tree = tuple[str, Fraction]


def _joined(parts: tuple[Tree, str, Tree]) -> Tree:
    (left, a), kind, (right, b) = parts
    if kind == "frac":
        return f"\\frac{{{left}}}{{{right}}}", a / b
    if kind == "dfrac":
        return f"\\left(\\dfrac{{{left}}}{{{right}}}\\right)", a / b
    return (f"{{{left}+{right}}}", a + b) if kind == "+" else (f"{{({left}) \\cdot ({right})}}", a * b)


FORMULAS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from(["frac", "dfrac", "+", "*"]), inner).map(_joined),
    max_leaves=6,
)


@given(FORMULAS)
def test_braces_are_matched_from_the_box(tree: Tree) -> None:
    formula, value = tree
    parsed = parse_answer(f"Use {{3}} of them. So $\\boxed{{{formula}}}$ it is.")
    assert parsed.status == "ok"
    assert parsed.value == pytest.approx(float(value))


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("$\\boxed{2^{2^{3}}}$.", 256),
        ("$3^{2} = \\boxed{9}$.", 9),
        ("\\boxed{\n  30\n}.", 30),
        ("\\boxed{\\text{the sum is } 30}.", 30),
        ("\\boxed{{30}}.", 30),
        ("\\boxed {30}.", 30),
        ("\\boxed 30.", 30),
        ("\\fbox{30}.", 30),
        ("\\boxed{\\boxed{30}}.", 30),
        ("\\boxed{\\textbf{30}}.", 30),
        ("\\boxed{30\\,\\text{cm}^{2}}.", 30),
        ("\\boxed{3{,}000}.", 3000),
        ("\\boxed{3,\\!000}.", 3000),
        ("\\boxed{3\\,000}.", 3000),
        ("\\boxed{\\$30}.", 30),
        ("\\boxed{x = 30}.", 30),
        ("\\boxed{-\\frac12}.", -0.5),
        ("\\boxed{2\\tfrac{1}{2}}.", 2.5),
        ("so $\\boxed{2}$ million.", 2_000_000),
        ("$-\\boxed{5}$.", -5),
        ("$\\boxed{7}^2$.", None),
        ("\\\\boxed{30}.", 30),
        ("\x08oxed{30}.", 30),
        ("\x0crac{3}{4}.", 0.75),
        ("\\boxed{5 \\text{ or } 6}.", None),
        ("\\boxed{5} or \\boxed{6}.", None),
        ("\\boxed{\\frac{1}{2}", None),
        ("\\boxed{30", None),
    ],
)
def test_boxes(said: str, value: float | None) -> None:
    assert read(said) == (None if value is None else pytest.approx(value))


# ---- units, amounts, exponents, fractions, signs ----


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("30 square feet", 30),
        ("30 ft^2", 30),
        ("30 m³", 30),
        ("30 cm2", 30),
        ("30 m/s^2", 30),
        ("30 km/h", 30),
        ("30\\text{ kg}", 30),
        ("$30^\\circ$", 30),
        ("30 °C", 30),
        ("30 m<sup>2</sup>", 30),
        ("$30 per crate", 30),
        ("3 thousand crates", 3000),
        ("$2.5 billion", 2.5e9),
        ("3 dozen plums", 36),
        ("2 hundred thousand", 200_000),
        ("\\boxed{3 \\text{ million}}", 3e6),
        ("1/2 dozen", 6),
        ("3½ crates", 3.5),
        ("3 1/2 crates", 3.5),
        ("3 and 1/2 crates", 3.5),
        ("3 and a half crates", 3.5),
        ("⅔", 2 / 3),
        ("3⁄4", 0.75),
        ("-1½", -1.5),
        ("2⁵", 32),
        ("10⁻²", 0.01),
        ("2.5 × 10⁴ kg", 25_000),
        ("$2.5 \\cdot 10^{4}$", 25_000),
        ("6 squared", 36),
        ("negative 6", -6),
        ("minus $6", -6),
        ("−6", -6),
        ("–6", -6),
        ("‑6", -6),
        ("－６", -6),
        ("9 minus 6", 3),
        ("1\u202f500", 1500),
        ("€1,500.50", 1500.5),
        ("US$30", 30),
        ("30 USD", 30),
        ("approx. 30", 30),
        ("≈ 30", 30),
        ("30 percent", 0.3),
        ("30, since 5 * 6 = 30", 30),
        ("30 (thirty)", 30),
        ("**30** plums", 30),
        ("*30* plums", 30),
        ("**1.5** million", 1.5e6),
        ("30, and that is all", 30),
        ("30 and the other is 6", None),
        ("30, not 36", 30),
        ("4 times", 4),
        ("3rd", 3),
        ("1.5M", None),
        ("$1.5m", 1.5e6),
        ("5 K", None),
        ("5 bil", None),
        ("5 mio. people", None),
        ("$5 bln", None),
        ("5 basis points", None),
        ("5 grand", None),
        ("5 doubled", None),
        ("5 fives", None),
        ("5 out of six", None),
        ("5-to-1", None),
        ("5-by-7", None),
        ("0x5", None),
        ("3 two-litre bottles", 3),
        ("5 bps", None),
        ("5C2", None),
        ("5A3", None),
        ("5m3", 5),
        ("3 score", None),
        ("half a million", 500_000),
        ("3 hundredths", None),
        ("3 fourths", None),
        ("3 quarters", None),
        ("30 squared meters", None),
        ("twice 6", None),
        ("half of 6", None),
        ("three 6s", None),
        ("5 ft 6 in", None),
        ("5 hours and 30 minutes", None),
        ("2h 30m", None),
        ("6 degrees below zero", None),
        ("±6", None),
        ("3-1/2 crates", None),
        ("5-6 hours", None),
        ("50%-60%", None),
        ("2025-06-01", None),
        ("3 out of 6", None),
        ("3:6", None),
        ("1,50", None),
        ("1 500", None),
        ("$6!$", None),
        ("6! = 720", 720),
        ("√36", None),
        ("the square root of 36", None),
        ("6π", None),
        ("101_2", None),
        ("6x", None),
        ("$6s$", None),
        ("40-6p", None),
        ("x^2 = 36", None),
        ("a 6-digit number", None),
        ("shown in step 6", None),
        ("6 or more", None),
        ("2 dozen and 6", None),
        ("6‰", None),
    ],
)
def test_an_amount_is_read_or_unparsable(said: str, value: float | None) -> None:
    assert read(f"{said}.") == (None if value is None else pytest.approx(value))


SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "lakh": 10**5}
MONEY = {"k": 10**3, "M": 10**6, "bn": 10**9}


@given(
    st.integers(1, 999),
    st.sampled_from([*SCALES, *MONEY, "score", "gross", "halves", "thirds", "tenths", "hundredths"]),
    st.sampled_from(["{} {}", "${} {}", "{}-{}", "{} {} plums", "\\boxed{{{}\\text{{ {}}}}}"]),
)
def test_a_word_of_scale_multiplies_or_makes_it_unparsable(number: int, word: str, form: str) -> None:
    value = read(f"{form.format(number, word)}.")
    scale = MONEY.get(word, 0) if form.startswith("$") else 0
    assert value is None or value == number * SCALES.get(word, scale)


@given(
    st.integers(1, 99_999),
    st.sampled_from(
        ["", "cm", "square miles", "plums", "km/h", "m^2", "ft²", "kWh", "°", "\\text{ cm}^{3}", " per crate"]
    ),
    st.sampled_from(["", "$", "-", "−", "negative ", "€"]),
)
def test_units_leave_the_number_as_it_is(number: int, unit: str, before: str) -> None:
    assume(not (before in ("$", "€") and unit.startswith("m")))  # millions
    value = read(f"{before}{number:,} {unit}.".replace(" .", "."))
    assert value == (-number if before in ("-", "−", "negative ") else number)


@given(st.integers(1, 20), st.integers(1, 12), st.integers(2, 12))
def test_mixed_numbers_in_every_form(whole: int, above: int, below: int) -> None:
    assume(above < below)
    value = pytest.approx(whole + above / below)
    for form in ("{} {}/{}", "${}\\frac{{{}}}{{{}}}$", "{} and {}/{} cups"):
        assert read(f"{form.format(whole, above, below)}.") == value


# ---- letters ----

DRESSES = [
    "({})",
    "[{}]",
    "（{}）",
    "**{}**",
    "`{}`",
    "“{}”",
    "_{}_",
    "\\text{{{}}}",
    "\\textbf{{({})}}",
    "${}$",
    "{}",
    "{})",
]


@given(
    st.integers(0, 2),
    st.sampled_from(DRESSES),
    st.sampled_from(
        ["The answer is {}.", "**Answer: {}**", "Answer: {}", "\\boxed{{{}}}", "<answer>{}</answer>", "#### {}"]
    ),
)
def test_a_letter_in_any_dress_names_its_choice(index: int, dress: str, form: str) -> None:
    letter = "ABC"[index]
    result = checked("It is sweet.\n" + form.format(dress.format(letter)), FRUIT[index], FRUIT)
    assert (result.reason, result.rationale) == ("right", "It is sweet.")


@pytest.mark.parametrize(
    "said",
    [
        "B because it is sweet",
        "(B), since a fig is dry",
        "B: pear",
        "B - pear",
        "B, pear",
        "B (pear)",
        "**B) pear**",
        "B pear",
        *("option B", "Choice (B)", "Ⓑ", "Ｂ", "【B】", "[[B]]", "pear (b)", "b", "B!", '"B"', "therefore B"),
    ],
)
def test_a_letter_beside_text(said: str) -> None:
    assert read(f"{said}.", FRUIT) == "pear"


@pytest.mark.parametrize(
    "said", ["B fig", "(B) fig", "A or B", "A and B", "A, B", "D", "(D)", "neither A nor B", "A/B"]
)
def test_a_letter_that_names_no_single_choice(said: str) -> None:
    assert read(f"{said}.", FRUIT) is None


@pytest.mark.parametrize(
    "text", ["Option B is correct.", "The correct choice is (B).", "B is the right answer.", "Ans: B"]
)
def test_other_ways_to_name_a_letter(text: str) -> None:
    assert checked(f"It is sweet. {text}", "pear", FRUIT).reason == "right"


# ---- choices that fold together, apostrophes, LaTeX choices ----


@given(st.lists(st.text("aAbBmMrR²2", min_size=1, max_size=4), min_size=2, max_size=5, unique=True), st.data())
def test_choices_that_fold_together_stay_apart(choices: list[str], data: st.DataObject) -> None:
    gold, said = data.draw(st.sampled_from(choices)), data.draw(st.sampled_from(choices))
    number = choices.index(said)
    result = checked(f"It is so. The answer is ({'abcde'[number]}) {said}.", gold, tuple(choices))
    assert result.kept == (said == gold)


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("tt", ("TT", "tt", "Tt"), "tt"),
        ("Tt", ("TT", "tt", "Tt"), "Tt"),
        ("tT", ("TT", "tt", "Tt"), None),
        ("(c) tt", ("TT", "tt", "Tt"), None),
        ("3 kw", ("3 kW", "3 KW"), None),
        ("3 kW", ("3 kW", "3 KW"), "3 kW"),
        ("4²", ("42", "4²", "16"), "4²"),
        ("42", ("42", "4²", "16"), "42"),
        ("$4^2$", ("42", "4²", "9"), "4²"),
        ("16", ("42", "4²", "16"), "16"),
        ("nacl", ("NaCl", "KCl"), "NaCl"),
        ("H2O", ("H₂O", "HO"), "H₂O"),
        ("the baker’s shop", ("baker's shop", "park"), "baker's shop"),
        ("the baker's shop", ("baker’s shop", "park"), "baker’s shop"),
        ("baker`s shop", ("baker's shop", "park"), "baker's shop"),
        ("part–time", ("part-time", "full-time"), "part-time"),
        ("cafe\u0301", ("caf\u00e9", "bar"), "caf\u00e9"),
        ("$\\dfrac{1}{3}$", ("$\\frac{1}{3}$", "$\\frac{1}{4}$"), "$\\frac{1}{3}$"),
        ("1/3", ("$\\frac{1}{3}$", "$\\frac{1}{4}$"), "$\\frac{1}{3}$"),
        ("(B) $\\frac14$", ("$\\frac{1}{3}$", "$\\frac{1}{4}$"), "$\\frac{1}{4}$"),
        ("(A) $\\frac14$", ("$\\frac{1}{3}$", "$\\frac{1}{4}$"), None),
        ("$y^2$", ("$y^2$", "$y^3$"), "$y^2$"),
        ("$y^4$", ("$y^2$", "$y^3$"), None),
        ("$\\sqrt{12}$", ("$\\sqrt{3}$", "$2\\sqrt{3}$"), "$2\\sqrt{3}$"),
        ("2√3", ("$\\sqrt{3}$", "$2\\sqrt{3}$"), "$2\\sqrt{3}$"),
    ],
)
def test_choices_as_they_are_written(said: str, choices: tuple[str, ...], choice: str | None) -> None:
    assert read(f"{said}.", choices) == choice


@given(st.sampled_from("'’ʼ´‘`"), st.sampled_from("'’ʼ´‘"))
def test_every_apostrophe_is_the_same(said: str, written: str) -> None:
    choices = (f"farmer{written}s field", "field")
    assert read(f"the farmer{said}s field.", choices) == choices[0]


@given(st.integers(1, 9), st.integers(2, 9), st.sampled_from(["\\frac{{{}}}{{{}}}", "$\\dfrac{{{}}}{{{}}}$", "{}/{}"]))
def test_latex_choices_are_compared_by_value(above: int, below: int, form: str) -> None:
    choices = tuple(f"$\\frac{{{above + k}}}{{{below}}}$" for k in range(3))
    assert read(f"{form.format(above, below)}.", choices) == choices[0]


# ---- left-over tokens, headings, restated problems, tags ----

TOKENS = [
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<｜end▁of▁sentence｜>",
    "<|end|>",
    "<eos>",
]


@given(st.lists(st.sampled_from([*TOKENS, "<pad>", "[/INST]", "\n"]), min_size=1, max_size=4).map("".join))
def test_left_over_tokens_change_nothing(tokens: str) -> None:
    for text, gold, choices in (("5*6 = 30. The answer is 30.", "30", ()), ("It is sweet. Answer: B", "pear", FRUIT)):
        assert checked(text + tokens, gold, choices) == checked(text, gold, choices)
    result = checked(f"5*6 = 30. The answer is 30.{tokens}<|im_end|>\n<|im_start|>user\nThe answer is 31.", "30")
    assert (result.reason, result.rationale) == ("right", "5*6 = 30.")


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>assistant\n5*6 = 30. The answer is 30.<|im_end|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n5*6 = 30. The answer is 30.<|eot_id|>",
        "<start_of_turn>model\n5*6 = 30. The answer is 30.<end_of_turn>",
        "<s>5*6 = 30. The answer is 30.</s><pad><pad>",
        "5*6 = 30. The answer is 30.<|im_e",
        "5*6 = 30. <answer>30</answer>",
        "5*6 = 30.\n<answer>\n30\n</answer>",
        "5*6 = 30. <ANSWER>30 plums</ANSWER>",
        "5*6 = 30. <answer>30",
        "5*6 = 30. <answer>The answer is 30.</answer>",
        "5*6 = 30. The answer is <answer>30</answer>.",
        "5*6 = 30. <|begin_of_box|>30<|end_of_box|>",
        '5*6 = 30.\n```json\n{"answer": 30}\n```',
        '5*6 = 30. {"answer": "30"}',
        "5*6 = 30.\n\n---\n\n**Answer:** 30",
        "5*6 = 30.\n- **Answer:** 30",
        "5*6 = 30.\n\nAnswer:\n- 30 plums",
        "5*6 = 30.\n\\[\n\\boxed{30}\n\\]",
        "5*6 = 30.\n\n### Final Answer\n\nThe final answer is $\\boxed{30}$. I hope it is correct.",
        "5*6 = 30.\n#### 30",
        "5*6 = 30.\n#### 30 plums",
        "5*6 = 30.\nThe answer is <<5*6=30>>30.",
        "5*6 = 30.\nA: 30",
        "5*6 = 30. \\textbf{Answer: 30}",
        "5*6 = 30. So the answer, therefore, is 30.",
        "5*6 = 30. The answer to this question is 30.",
        "5*6 = 30. The answer is:\n```\n30\n```",
    ],
)
def test_the_same_answer_in_every_frame(text: str) -> None:
    assert checked(text, "30").reason == "right"
    assert checked(text, "30").rationale == "5*6 = 30."


HEADINGS = [
    "Step 1: Multiply",
    "Step 2",
    "Solution",
    "1. Multiply",
    "2) Count",
    "Part (a)",
    "5 crates",
    "**Step 3**",
    "Case 2: six",
]


@given(
    st.sampled_from(HEADINGS), st.sampled_from(["####", "###", "##"]), st.sampled_from(["The answer is 30.", "#### 30"])
)
def test_headings_are_no_answers(heading: str, marks: str, answer: str) -> None:
    result = checked(f"{marks} {heading}\n5*6 = 30.\n\n{answer}", "30")
    assert result.reason == "right"
    assert result.rationale.endswith("5*6 = 30.")


@given(
    st.sampled_from(["Problem:", "**Problem:**", "Question:", "Q:", "### Question:", "Instruction:", "Exercise 3:"]),
    st.sampled_from(["Solution:", "**Solution:**", "Answer:", "A:", "### Response:", "Explanation:"]),
    st.sampled_from(["", "\n", "Sure! Here it is.\n\n", "Let me restate it:\n\n"]),
)
def test_a_restated_problem_is_no_answer(problem: str, solution: str, before: str) -> None:
    text = f"{before}{problem} 5 crates of 6; the answer is 7 less than x.\n{solution} 5*6 = 30. The answer is 30."
    result = checked(text, "30")
    assert result.reason == "right"
    assert "5*6 = 30" in result.rationale
    other = checked(text + "\n\nQ: 2+2?\nA: The answer is 4.", "30")
    assert other.rationale == result.rationale


def test_a_problem_and_its_solution_may_stand_on_one_line() -> None:
    assert checked("Q: How many are 5 crates of 6? A: 5*6 = 30. The answer is 30.", "30").reason == "right"


def test_restated_choices_are_no_answers() -> None:
    text = "Question: What is sweet?\nAnswer Choices:\n(a) plum\n(b) pear\n(c) fig\n"
    text += "Answer: A pear is sweet. The answer is (b)."
    result = checked(text, "pear", FRUIT)
    assert result.reason == "right"
    assert "A pear is sweet" in result.rationale


def test_an_invented_problem_behind_text_without_an_answer_is_not_read() -> None:
    assert checked("Five crates of six.\n\nQ: 2+2?\nA: The answer is 30.", "30").reason == "no answer"


# ---- where a rationale ends ----

ASIDES = [
    "Let x be the answer: x = 5*6.",
    "Let the answer be x.",
    "Let's call the answer: N = 5.",
    "To find the answer: multiply.",
    "Suppose the answer is 28.",
    "If the answer is 28, it is even.",
    "Is it so that the answer is 29?",
    "I don't think the answer is 31.",
    "The answer is not obvious.",
    "The answer is a 2-digit number.",
    "The answer is a whole number.",
    "We need the answer: total = 5.",
    "The answer is obtained by multiplying.",
    "What is the answer: 28 or 30?",
    "Answer: each crate holds 6 plums.",
]


@given(st.lists(st.sampled_from(ASIDES), min_size=1, max_size=4, unique=True), st.sampled_from(["\n", " ", "\n\n"]))
def test_a_rationale_is_cut_at_the_sentence_that_was_read_and_nowhere_earlier(asides: list[str], between: str) -> None:
    text = between.join([*asides, "Each of the 5 crates holds 6 plums, so 5*6 = 30.", "The answer is 30."])
    result = checked(text, "30")
    assert result.reason == "right"
    assert result.rationale.endswith("Each of the 5 crates holds 6 plums, so 5*6 = 30.")


def test_an_answer_that_is_said_first_and_proved_after_keeps_the_proof() -> None:
    result = checked("The answer is 30. Each of the 5 crates holds 6 plums, so 5*6 = 30.\nThe answer is 30.", "30")
    assert result.rationale.endswith("Each of the 5 crates holds 6 plums, so 5*6 = 30.")


def test_a_line_that_ends_in_an_infinitive_takes_no_answer_back() -> None:
    assert checked("5*6 = 30, so 30 plums are left to eat\n**Answer: 30**", "30").reason == "right"


@pytest.mark.parametrize(
    "text",
    [
        "5*6 = 30. The answer is 30. So the answer is 30.",
        "5*6 = 30. The answer is 30.\n\n**Final Answer**\n\n\\boxed{30}",
        "5*6 = 30.\nThe answer is 30 plums.\n#### 30",
        "5*6 = 30.\n\n### Answer\n\nThe answer is 30.",
    ],
)
def test_an_answer_that_is_said_twice_in_a_row_is_cut_whole(text: str) -> None:
    assert checked(text, "30").rationale == "5*6 = 30."


@pytest.mark.parametrize(
    "sentence",
    [
        "Wait, that's wrong. It is 28.",
        "Hmm, wait.",
        "But wait, one is missing.",
        "Actually, it is 28.",
        "No, that is 28.",
        "No, 28.",
        "Oops, 28.",
        "Sorry, 28.",
        "I made a mistake: 28.",
        "That is not correct.",
        "However, this is wrong.",
        "Let me re-check: 4*7 = 28.",
        "Scratch that.",
    ],
)
@pytest.mark.parametrize("answer", ["The answer is 30.", "So $\\boxed{30}$.", "The answer is 30.\n"])
def test_a_sentence_may_take_an_answer_back(sentence: str, answer: str) -> None:
    assert checked(f"Five crates. {answer} {sentence}", "30").reason == "ambiguous"
    assert checked(f"Five crates. {answer} {sentence} So 5*6 = 30. The answer is 30.", "30").reason == "right"


@pytest.mark.parametrize(
    "sentence", ["That's correct.", "It is a whole number.", "I hope that helps!", "No crate is left.", "Let me know!"]
)
def test_a_sentence_behind_an_answer_need_not_take_it_back(sentence: str) -> None:
    assert checked(f"5*6 = 30. The answer is 30. {sentence}", "30").reason == "right"


@pytest.mark.parametrize(
    "text",
    [
        "The answer should be 30.",
        "So the answer must be $30.",
        "Thus the final answer equals 30.",
        "The answer has to be (30).",
        "The answer comes out to 30 plums.",
        "The answer turns out to be **30**.",
    ],
)
def test_other_verbs_state_an_answer_where_there_is_no_other(text: str) -> None:
    result = checked(f"5*6 = 30. {text}", "30")
    assert (result.reason, result.rationale) == ("right", "5*6 = 30.")
    assert checked(f"5*6 = 30. {text} So it is. The answer is 31.", "31").reason == "right"


@pytest.mark.parametrize(
    "text",
    [
        "The answer must be 2 digits.",
        "The answer must be a 2-digit number.",
        "If the answer must be 30, stop.",
        "The answer should be 30?",
        "The answer must be 30 or more.",
        "The answer should not be 30.",
        "The wrong answer must be 30.",
    ],
)
def test_what_an_answer_should_be_like_is_no_answer(text: str) -> None:
    assert parse_answer(f"5*6 = 30. {text}").status != "ok"


@pytest.mark.parametrize(
    "text", ["The answer is 28. No: 5*6 = 30. The answer is 30.", "The answer is 30. But the answer is 28 or 30."]
)
def test_an_answer_that_is_taken_back_is_ambiguous(text: str) -> None:
    assert checked(f"Five crates. {text}", "30").reason == "ambiguous"

"""LaTeX as plain text, and LaTeX values compared in a process of their own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.answers import math_values
from molsaki.answers.boxes import boxes_of
from molsaki.answers.latex import plain_text, to_plain, without_dollars
from molsaki.answers.math_values import same_math
from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.errors import EvaluationError
from molsaki.records import Problem


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        ("\\frac{1}{2}", "((1)/(2))"),
        ("\\frac12", "((1)/(2))"),
        ("\\dfrac{\\frac{1}{2}}{3}", "((((1)/(2)))/(3))"),
        ("2^{10}", "2^(10)"),
        ("2^3", "2^(3)"),
        ("{1+2} \\cdot 3", "(1+2) * 3"),
        ("{42}", "42"),
        ("72\\text{ cm}^{2}", "72 cm^(2)"),
        ("1{,}234", "1,234"),
        ("30^\\circ", "30°"),
        ("\\sqrt{16}", "√(16)"),
        ("\\sqrt[3]{27}", "√[3](27)"),
        ("\\textcolor{red}{42}", "42"),
        ("\\left( 3 \\right)", " ( 3  )"),
        ("\\overline{3}", "\\overline 3"),
        ("\\frac{1}{2", "\\frac{1}{2"),
        ("no LaTeX", "no LaTeX"),
        ("2½ m²", "2((1)/(2)) m^(2)"),
    ],
)
def test_plain_text(latex: str, plain: str) -> None:
    assert plain_text(latex) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$x$ and $y$", "x and y"),
        ("$5 to $10", "$5 to $10"),
        ("$5", "$5"),
        ("$5-$10", "$5-$10"),
        ("$$42$$", " 42 "),
        ("\\$5", "\\$5"),
    ],
)
def test_dollar_signs_of_formulas_and_of_amounts(text: str, plain: str) -> None:
    assert without_dollars(text) == plain


def test_boxes_are_matched_by_their_braces() -> None:
    assert boxes_of("so \\boxed{a{b}{c}} and \\fbox{d} {e} \\boxed{f") == ["a{b}{c}", "d"]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["\\frac", "{", "}", "^", "_", "1", "\\sqrt", "[", "]", "\\text", "\\", "$", " ", "é"]))
)
def test_any_latex_has_some_plain_text(parts: list[str]) -> None:
    to_plain("".join(parts))
    plain_text(without_dollars("".join(parts)))


@pytest.mark.parametrize("part", ["{", "\\frac{", "\\sqrt", "^", "\\boxed{", "$", "_{"])
def test_long_latex_takes_little_time(part: str) -> None:
    began = time.process_time()
    plain_text(without_dollars(part * 50_000))
    boxes_of(part * 50_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("gold", "said", "same"),
    [
        ("4", "\\sqrt{16}", True),
        ("16", "\\sqrt{16}", False),
        ("2\\sqrt{5}", "\\sqrt{20}", True),
        ("2\\sqrt{5}", "2√5", True),
        ("\\frac{\\pi}{2}", "0.5\\pi", True),
        ("9\\pi", "A = \\pi r^2 = 9\\pi", True),
        ("(0, 1]", "(0,1]", True),
        ("(0, 1]", "(0,1)", False),
        ("(3, 4)", "(4, 3)", False),
        ("1, 2", "2,1", True),
        ("5n + 10", "5(n+2)", True),
        ("50\\%", "\\frac{1}{2}", True),
        ("\\text{Tuesday}", "Tuesday", True),
        ("\\text{Tuesday}", "Friday", False),
        ("5\\sqrt{3}", "5\\sqrt{3}\\text{ cm}", True),
        ("4", "x^2 = 4", False),
        ("4", "3x = 4", False),
        ("1011", "1011_2", False),
        ("3", "", False),
        ("3", "x" * 1000, False),
    ],
)
def test_latex_values(gold: str, said: str, same: bool) -> None:
    assert same_math(gold, said) is same


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(2, 9))
def test_roots_of_squares(a: int, b: int) -> None:
    assert same_math(f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}")
    assert not same_math(f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b + 1}}}")


@pytest.mark.parametrize("hostile", ["9^{9^{9^{9}}}", "99999999!", "\\sqrt{9^{9^{9^{9}}}}"])
def test_hostile_latex_is_ended_in_time(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same_math("4", "\\sqrt{16}")  # the process has started
    monkeypatch.setattr(math_values, "SECONDS", 1.0)
    began = time.monotonic()
    assert same_math("3", hostile) is False
    assert time.monotonic() - began < 30
    assert same_math("5", "\\sqrt{25}") is True  # in a new process


def test_threads_share_one_process() -> None:
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(same_math(str(n), f"\\sqrt{{{n * n}}}")))
        for n in range(11, 15)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def _compare_in_a_fork(results: multiprocessing.Queue[bool]) -> None:
    results.put(same_math("21", "\\sqrt{441}"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_has_its_own() -> None:
    assert same_math("20", "\\sqrt{400}")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_compare_in_a_fork, args=(results,), daemon=True)
    process.start()
    assert results.get(timeout=120) is True
    process.join()
    assert same_math("22", "\\sqrt{484}")


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from molsaki.answers.parse import parse_answer; parse_answer('The answer is $\\\\sqrt{16}$.');"
        "print(sorted({'sympy', 'math_verify', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def problem(gold: str) -> Problem:
    return Problem("p", "What is it?", gold, gold)


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("$\\boxed{\\frac{\\sqrt{3}}{2}}$", "\\frac{\\sqrt 3}{2}", True),
        ("$\\boxed{90^\\circ}$", "90", True),
        ("90", "90^\\circ", True),
        ("52%", "52\\%", True),
        ("52", "52\\%", True),
        ("0.52", "52\\%", True),
        ("5,200", "52\\%", False),
        ("10,080", "10{,}080", True),
        ("8 cm", "8\\text{ cm}", True),
        ("$\\sqrt{64}$", "8", True),
        ("(3, 4)", "(3,4)", True),
        ("3", "(3,4)", False),
        ("even", "\\text{even}", True),
        ("$\\boxed{x = 5}$", "5", True),
        ("$\\boxed{5x}$", "5", False),
    ],
)
def test_golds_in_latex(said: str, gold: str, right: bool) -> None:
    assert is_right(parse_answer(f"It is so. The answer is {said}."), problem(gold)) is right


@pytest.mark.parametrize("gold", ["\\frac{1}", "\\sqrt{119", "\\text{Tuesday", "red and blue", ""])
def test_a_gold_that_is_no_value_is_an_error(gold: str) -> None:
    with pytest.raises(EvaluationError, match="'p'"):
        is_right(parse_answer("The answer is 5."), problem(gold))


def test_a_process_that_was_ended_costs_no_right_answer():
    assert same_math("22", "\\sqrt{484}")
    process = math_values._grader.process
    process.kill()
    process.wait()
    assert same_math("23", "\\sqrt{529}") is True


def test_a_comparison_that_takes_too_long_is_said(caplog, monkeypatch):
    monkeypatch.setattr(math_values, "_line", lambda *_: "")
    assert same_math("24", "\\sqrt{576}") is False
    assert "were not compared" in caplog.text

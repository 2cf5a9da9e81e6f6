r"""Comparison of two LaTeX values: by their text if it decides, else by math-verify.

math-verify bounds its time by signals, which work in a main thread only and do not stop a long power of whole
numbers. So it runs in a process of its own that is ended if it takes too long; the same holds in threads and in
worker processes, and nothing heavy is imported here.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import subprocess
import sys
import threading
from functools import lru_cache

from molsaki.answers.amounts import has_other_amount
from molsaki.answers.expressions import MAX_EXPRESSION, is_expression
from molsaki.answers.latex import plain_text, to_plain, without_dollars
from molsaki.answers.math_process import READY
from molsaki.answers.numbers import NAME
from molsaki.errors import StageError

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
SECONDS = 3.0
"""The time limits, in seconds, for the start of the process and for one comparison; on a timeout, values differ."""

_RELATION = re.compile(r"[=<>≤≥≠]")
_SEVERAL = re.compile(r"[,;](?!\d{3})|\\(?:quad|text)|\b(?:and|or)\b")
"""What separates equations."""
_SUM = re.compile(r"[a-zA-Z](?:\s?[+-]\s?[a-zA-Z]){1,4}")
"""A sum that a problem asks for: `m + n = 73`."""
_WORD = re.compile(r"[^\W\d_]{3,}")
_UNIT = re.compile(r"(?<=\S)\s{0,3}\\(?:text|mathrm|mbox|textnormal)\s?\{[^{}\d]{1,60}\}(?:\^\{?\d\}?)?\Z")
_FUNCTION = re.compile(r"\\(?:log|ln|sin|cos|tan|binom)\b")
_INDEX = re.compile(r"_\((\w+)\)")
_INDEXED = re.compile(r"\d\s?_")
_ROOT = re.compile(r"√\s?(?:\(([^()]{1,80})\)|(\d{1,12}(?:\.\d{1,9})?|[a-z]))")
_BARE_POWER = re.compile(r"\^\(([^()]{1,40})\)|\^([-−]?\d{2,9})")
_BARE_WORD = re.compile(r"(?<![\\a-zA-Z])(?:sqrt(?=\()|(?:pi|infinity)\b)")
_SIGNS = {"sqrt": "√", "pi": "π", "infinity": "∞"}
_COMMANDS = str.maketrans(
    {"π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "∪": r"\cup ", "∩": r"\cap "}
    | {"≤": r"\le ", "≥": r"\ge ", "°": r"^\circ ", "±": r"\pm ", "−": "-", "–": "-", "θ": r"\theta "}
)


@lru_cache(maxsize=4096)
def same_math(gold: str, said: str) -> bool:
    r"""Whether a stated value equals the right one, both in LaTeX or with signs such as `√` and `π`.

    An equation says its last side, `A = \pi r^2 = 9\pi`, if its first is a name. `x^2 = 4` states no value.
    """
    gold, said = _formula(gold), _formula(said)
    if not _RELATION.search(_canonical(gold)):
        said = _last_side(said)
    if not gold or not said:
        return False
    if _canonical(gold) == _canonical(said):
        return True
    if _INDEXED.search(said):  # math-verify drops the base of `1011_2`
        return False
    if any("…" in plain_text(formula) or "..." in formula for formula in (gold, said)):
        return False
    if max(len(gold), len(said)) > MAX_EXPRESSION or not _has_value(gold) or not _has_value(said):
        return False
    return _grader.same(_as_latex(gold), _as_latex(said))


def _formula(text: str) -> str:
    """The LaTeX without the dollar signs, the full stop and the unit around it; empty if the unit multiplies it."""
    formula = without_dollars(text).replace("‼", "!").strip().strip("$").rstrip(".").strip()
    formula = _BARE_POWER.sub(lambda match: f"^{{{match[1] or match[2]}}}", formula)
    unit = _UNIT.search(formula)
    if unit is None:
        return formula
    return "" if has_other_amount(f"1 {plain_text(unit[0]).strip()}") else formula[: unit.start()]


def _canonical(formula: str) -> str:
    plain = _INDEX.sub(r"_\1", "".join(plain_text(formula).split()))
    return plain.casefold() if _WORD.search(plain) else plain


def _last_side(formula: str) -> str:
    """The value that an equation states; empty if it states none."""
    first, *others = formula.replace("\\approx", "=").replace("≈", "=").split("=")
    if not others or not first.strip():
        return others[-1].strip() if others else formula
    if re.search("[<>≤≥≠]", plain_text(formula)) or _SEVERAL.search("=".join([first, *others[:-1]])):
        return ""
    unknown = any(map(str.isalpha, _FUNCTION.sub("", to_plain(first)).replace("π", "")))
    name = plain_text(first).strip()
    return "" if unknown and not NAME.fullmatch(name) and not _SUM.fullmatch(name) else others[-1].strip()


def _has_value(formula: str) -> bool:
    return any(map(str.isalnum, formula)) and is_expression(formula)


def _as_latex(formula: str) -> str:
    latex = _BARE_WORD.sub(lambda match: _SIGNS[match[0]], formula)
    latex = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", latex)
    return latex.translate(_COMMANDS).replace("$", "").replace("\n", " ")


class _Grader:
    """math-verify in a process that starts at the first comparison."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None

    def same(self, gold: str, said: str) -> bool:
        """The result of math-verify; False if it takes too long or runs out of memory.

        Raises:
            StageError: the process cannot be started.
        """
        with self.lock:
            process = self._send(json.dumps([gold, said]) + "\n")
            answer = _line(process, SECONDS)
            if not answer:
                self.close()
                logger.warning("%.60r and %.60r were not compared in %g s, and count as different", gold, said, SECONDS)
            return answer == "true"

    def _send(self, line: str) -> subprocess.Popen[str]:
        """Send a comparison to the process, or to a new one if it was ended from outside."""
        for _ in range(2):
            process = self.process = self.process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError:
                self.close()
            else:
                return process
        raise StageError(
            "Expected math-verify's process to take a comparison; it was ended twice. LaTeX answers cannot be "
            "compared; free some memory."
        )

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "molsaki.answers.math_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if _line(process, START_SECONDS) != READY:
            self.process = process
            self.close()
            raise StageError(
                "Expected math-verify to start in a process of its own; it did not. LaTeX answers cannot be compared; "
                "see what it wrote above, and install math-verify."
            )
        return process

    def close(self) -> None:
        """End the process, if it is running."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()

    def forget(self) -> None:
        """In a forked process: leave the parent's process to the parent."""
        process, self.process, self.lock = self.process, None, threading.Lock()
        if process is not None:
            process.returncode = 0
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()


def _line(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line that a process writes; empty if none comes in time, and the process is ended then."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline().strip()
    finally:
        timer.cancel()


_grader = _Grader()
atexit.register(_grader.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_grader.forget)

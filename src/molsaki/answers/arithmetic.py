"""Arithmetic as models write it, within bounds.

Labels such as `( 7.0 * 30.0 )` are scored by their value, and model output is untrusted: a small parser reads
numbers, `+ - * / **` and parentheses, and refuses everything else. Values are floats, so no expression can ask for
much time or memory.
"""

from __future__ import annotations

import math
import re

from molsaki.errors import ExpressionError

MAX_LENGTH = 1000
MAX_DEPTH = 50
MAX_DIGITS = 30
MAX_MAGNITUDE = 1e15
"""Bounds on the length of the text, on its nesting, on one number, and on every intermediate value (up to which floats
represent integers exactly)."""
RELATIVE_TOLERANCE = 1e-4
"""Numbers this close are the same, since a label `( 1.0 / 3.0 )` is often answered by `0.3333`."""
SHORT = 3
"""Numbers with at most this many decimals are no rounded fractions and are compared exactly."""
NOISE = 1e-12
"""The relative rounding noise of a calculation."""
NEARLY_ZERO = 1e-12
"""The largest value that is the same as 0, since it may have been calculated: 0.1 + 0.2 − 0.3."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|\.\d+)"
    r"|(?P<symbol>\*\*|[-+*/^()%$£€¥₹×⋅·∗÷−–]|[xX](?=\s*[\d(.$£€])))"
)
_SAME = {"^": "**", "×": "*", "⋅": "*", "·": "*", "∗": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-"}
_CURRENCY = frozenset("$£€¥₹")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 3}
_SIGN_BINDING = 3


def solve(expression: str) -> float:
    """Return the value of an arithmetic expression.

    `solve("( 7.0 * 30.0 )")` is 210.0. Read are `+ - * / **` (also `× · ÷ − ^`, and `x` between two
    unsigned operands), signs, parentheses, decimals, thousands commas, a currency sign beside a number, `%` as a
    hundredth, and one `=` or full stop at the end. As in Python, `**` binds to the right and tighter than a
    sign before it: `-2**2` is -4.

    Example:
        >>> import molsaki
        >>> molsaki.solve("( 7.0 * 30.0 )")
        210.0

    Args:
        expression: the text; it is never given to Python's own evaluation.

    Raises:
        ExpressionError: the text is no such expression, exceeds a bound (`MAX_LENGTH` characters, `MAX_DEPTH`
            levels, `MAX_DIGITS` digits in a number, `MAX_MAGNITUDE` for any value on the way), divides by
            zero or has no real value.
    """
    if len(expression) > MAX_LENGTH:
        raise _refusal(expression, f"it has {len(expression)} characters, more than {MAX_LENGTH}")
    body = expression[: _end_of_body(expression)]
    parser = _Parser(expression, _tokenize(expression, body))
    value = parser.expression(1, 0)
    if parser.position < len(parser.tokens):
        raise _refusal(expression, f"{parser.tokens[parser.position]!r} follows where it should have ended")
    return value + 0.0  # −0.0 becomes 0.0


def same_number(a: float, b: float) -> bool:
    """Whether two numbers are the same: exactly with few decimals, others within `RELATIVE_TOLERANCE`.

    A fraction that was rounded has many decimals on one side: `0.3333` is 1/3, but `1999.9` is not 2000.
    """
    larger = max(abs(a), abs(b))
    tolerance = 2 * NOISE if _is_short(a) and _is_short(b) else RELATIVE_TOLERANCE
    return abs(a - b) <= tolerance * larger or (0 in (a, b) and larger <= NEARLY_ZERO)


def _is_short(value: float) -> bool:
    """Whether a number has at most `SHORT` decimals, up to the rounding of sums."""
    return abs(value - round(value, SHORT)) <= NOISE * abs(value)


def format_number(x: float) -> str:
    """Return a number's shortest text: `"42"`, `"0.5"`, `"0.3"` for 0.1 + 0.2 (12 significant digits).

    Raises:
        ExpressionError: `x` is not finite.
    """
    if not math.isfinite(x):
        raise ExpressionError(f"Expected a finite number, got {x!r}. It has no text that solve() reads back.")
    if float(x).is_integer() and abs(x) <= MAX_MAGNITUDE:
        return str(int(x))
    return f"{x:.12g}"


def _refusal(expression: str, why: str) -> ExpressionError:
    shown = expression if len(expression) <= 60 else expression[:57] + "..."
    return ExpressionError(
        f"Expected an arithmetic expression such as '( 7.0 * 30.0 )', got {shown!r}: {why}. "
        f"It has no value; use numbers, + - * / **, and parentheses only."
    )


def _end_of_body(expression: str) -> int:
    """The position where the expression ends, before an optional `=` and full stop."""
    tail = len(expression.rstrip())
    for mark in ".=":
        if expression[:tail].endswith(mark):
            tail = len(expression[: tail - 1].rstrip())
    return tail


def _tokenize(expression: str, body: str) -> list[str | float]:
    """Split into floats and operators; currency signs are checked and left out."""
    tokens: list[str | float] = []
    position = 0
    currency = False
    while position < len(body):
        match = _TOKEN.match(body, position)
        if match is None:
            raise _refusal(expression, f"{body[position:].strip()[:20]!r} cannot be read")
        position = match.end()
        number = match["number"]
        if number is not None:
            if sum(character.isdigit() for character in number) > MAX_DIGITS:
                raise _refusal(expression, f"a number has more than {MAX_DIGITS} digits")
            tokens.append(float(number.replace(",", "")))
            currency = False
            continue
        symbol = match["symbol"]
        if symbol in _CURRENCY:
            if currency:
                raise _refusal(expression, f"two currency signs in a row, {symbol!r} the second")
            currency = not (tokens and isinstance(tokens[-1], float))
            continue
        if currency and symbol not in "(-−–":
            raise _refusal(expression, "a currency sign is not next to a number")
        tokens.append(_SAME.get(symbol, symbol))
        currency = currency and symbol != "("
    if currency:
        raise _refusal(expression, "a currency sign is not next to a number")
    return tokens


class _Parser:
    """Precedence climbing over the tokens; each nesting, sign and operand on the right counts as a level."""

    def __init__(self, source: str, tokens: list[str | float]) -> None:
        self.source = source
        self.tokens = tokens
        self.position = 0

    def expression(self, weakest: int, depth: int) -> float:
        """Read operands joined by operators that bind at least as tightly as `weakest`."""
        if depth > MAX_DEPTH:
            raise _refusal(self.source, f"it nests deeper than {MAX_DEPTH} levels")
        left = self._operand(depth)
        while isinstance(operator := self._peek(), str):
            binding = _BINDING.get(operator, 0)
            if binding < weakest:
                break
            self.position += 1
            right = self.expression(binding if operator == "**" else binding + 1, depth + 1)
            left = self._apply(operator, left, right)
        return left

    def _operand(self, depth: int) -> float:
        part = self._peek()
        if part is None:
            raise _refusal(self.source, "it ends where a number should follow")
        self.position += 1
        if isinstance(part, float):
            value = self._bounded(part)
        elif part in ("+", "-"):
            value = self.expression(_SIGN_BINDING, depth + 1)
            return -value if part == "-" else value
        elif part == "(":
            value = self.expression(1, depth + 1)
            if self._peek() != ")":
                raise _refusal(self.source, "a parenthesis is not closed")
            self.position += 1
        else:
            raise _refusal(self.source, f"{part!r} is where a number should be")
        while self._peek() == "%":
            self.position += 1
            value /= 100
        return value

    def _peek(self) -> str | float | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _apply(self, operator: str, left: float, right: float) -> float:
        if operator == "+":
            return self._bounded(left + right)
        if operator == "-":
            return self._bounded(left - right)
        if operator == "*":
            return self._bounded(left * right)
        if operator == "/":
            if right == 0:
                raise _refusal(self.source, "it divides by zero")
            return self._bounded(left / right)
        try:
            return self._bounded(math.pow(left, right))
        except (ValueError, OverflowError) as error:
            raise _refusal(self.source, f"{left:g} ** {right:g} has no real value of a bearable size") from error

    def _bounded(self, value: float) -> float:
        if not abs(value) <= MAX_MAGNITUDE:
            raise _refusal(self.source, f"a value exceeds {MAX_MAGNITUDE:g}")
        return value

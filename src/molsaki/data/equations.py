"""Annotated equations as labels: written in the form of SVAMP, and solved for their unknown.

Data sets write `7+2=9` or `70-x=27`; the student's label is an expression with a value, `( 7 + 2 )` or
`( 70 - 27 )`. The text is parsed into a tree, never evaluated, and only sums, differences, products and
quotients of plain numbers are taken; anything else gives None, and the caller falls back to the bare number.
"""

from __future__ import annotations

import ast
import re

MAX_EQUATION_CHARACTERS = 300
"""Longer equations are not parsed; the longest of the known data sets has fewer than 150 characters."""

_PLAIN = re.compile(r"[0-9.+\-*/() x]+")
_LEAF = re.compile(r"\d+(?:\.\d*)?|\.\d+|x")
_SYMBOLS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}

_Tree = str | tuple["_Tree", str, "_Tree"]
"""A number or `x`, or (left, operator, right)."""


def written_out(expression: str) -> str | None:
    """An expression with spaces and all its parentheses, `( ( 9 + 5 ) + 2 )`; None for anything else."""
    tree = _parse(expression)
    return None if tree is None or _count_unknowns(tree) else _write(tree)


def solved_for_x(equation: str) -> str | None:
    """The expression that x equals, `( 70 - 27 )` for `70-x=27`.

    Returns:
        The expression, or None unless the equation has one `=` and one `x`.
    """
    sides = [_parse(side) for side in equation.split("=")]
    if len(sides) != 2:
        return None
    left, right = sides
    if left is None or right is None or _count_unknowns(left) + _count_unknowns(right) != 1:
        return None
    unknown, known = (left, right) if _count_unknowns(left) else (right, left)
    while isinstance(unknown, tuple):
        first, symbol, second = unknown
        if _count_unknowns(first):  # x ∘ b = k: x is k ∘⁻¹ b
            unknown, known = first, (known, _INVERSE[symbol], second)
        elif symbol in "+*":  # a ∘ x = k: x is k ∘⁻¹ a
            unknown, known = second, (known, _INVERSE[symbol], first)
        else:  # a − x = k: x is a − k; a / x = k: x is a / k
            unknown, known = second, (first, symbol, known)
    return _write(known)


def _parse(expression: str) -> _Tree | None:
    text = expression.strip()
    if len(text) > MAX_EQUATION_CHARACTERS or not _PLAIN.fullmatch(text) or "**" in text or "//" in text:
        return None
    try:
        return _convert(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _convert(node: ast.expr, text: str) -> _Tree | None:
    if isinstance(node, (ast.Constant, ast.Name)):
        leaf = text[node.col_offset : node.end_col_offset]
        return leaf if _LEAF.fullmatch(leaf) else None  # not the hexadecimal 0x10
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _convert(node.left, text), _convert(node.right, text)
    if left is None or right is None:
        return None
    return left, _SYMBOLS[type(node.op)], right


def _count_unknowns(tree: _Tree) -> int:
    if isinstance(tree, str):
        return int(tree == "x")
    return _count_unknowns(tree[0]) + _count_unknowns(tree[2])


def _write(tree: _Tree) -> str:
    if isinstance(tree, str):
        return tree
    return f"( {_write(tree[0])} {tree[1]} {_write(tree[2])} )"

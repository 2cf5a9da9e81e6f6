"""What a LaTeX value is, where a sentence ends, and the one formula of a sentence."""

from __future__ import annotations

import re

from molsaki.answers.amounts import may_change
from molsaki.answers.denials import is_denied
from molsaki.answers.latex import FORMULA, to_plain

MAX_EXPRESSION = 200
"""The longest LaTeX value that is kept to be compared, in characters."""

# A full stop after a short unit ends no sentence before a number or "by": "5 ft. 3 in.", "5 in. by 7 in.".
SENTENCE_END = re.compile(
    r"(?:(?<!approx)(?<!\b[Rr]s)(?<!\bi\.e)(?<!\be\.g)(?:[.?](?!\s{1,3}(?:\d|(?:x|by|and|or|of|per|to)\b))"
    r"|[.?](?<!(?:in|ft|yd|mi|oz|lb|hr|pt|qt|vs|no|al)\.)(?<!(?:lbs|hrs|min|sec|gal)\.))|!(?!\s{0,3}[=+*/×÷^<>-])|;(?!\s{0,3}[\d$-]))"
    r"(?=[\"'”’)\]*_]{0,3}(?:\s|\Z|[A-Z]))"
)
_BOLD = re.compile(r"(?<![\w)*])(?:\*\*|__)(?=[^\s*_])([^*_\n]{1,200}?)(?<=[^\s*_])(?:\*\*|__)(?![\w(*])")
# A mark whose opening one stood before the text: "Answer: **42** pens", where the text begins at 42.
_BOLD_END = re.compile(r"(?<=[^\s*])(?:\*{2,3}(?=\s*(?:[^\d\s(]|\(\D|\Z))|\*(?=\s[^\W\d]))")
_FUNCTIONS = frozenset(
    (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "exp",
        "arcsin",
        "arccos",
        "arctan",
        "max",
        "min",
        "gcd",
        "lcm",
        "sqrt",
        "infinity",
    )
)
_PROSE_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{3,}\b")
_COMMAND = re.compile(r"\\(?:begin|end) \w{1,12}|\\[a-zA-Z]+")
_SYMBOLIC = re.compile(r"\\[a-zA-Z]{2}|[√π∞]")
_JOINING = re.compile(r"(?<![\w\\])(?:or|and|is|of|in|to)(?!\w)|[?]")
_NO_FORMULA = re.compile(r"\(\)|\d\s{1,3}\d|\d\.\d+\.\d|\b0[xXbBoO][\da-fA-F]")
"""What is not a product of numbers: `1 000`, `1.000.000`, `0x1F`."""


def is_expression(content: str) -> bool:
    """Whether a text can be a LaTeX value: letters and digits, no words but those of functions, braces that match."""
    plain = to_plain(content)
    if not 0 < len(content) <= MAX_EXPRESSION or (plain == content and "{" in content.replace("\\{", "")):
        return False
    if _NO_FORMULA.search(plain) or plain.count("(") + plain.count("[") != plain.count(")") + plain.count("]"):
        return False
    words = {word.lower() for word in _PROSE_WORD.findall(_COMMAND.sub(" ", plain))}
    return (
        any(character.isalnum() or character == "∞" for character in plain)
        and words <= _FUNCTIONS
        and not _JOINING.search(plain)
    )


def is_text(content: str) -> bool:
    r"""Whether a text is words in LaTeX, such as `\text{Tuesday}`, which are compared as text."""
    return "\\text" in content and to_plain(content) != content and len(content) <= MAX_EXPRESSION


def without_emphasis(answer: str) -> str:
    """Without Markdown's marks; a single `*` at the end alone is an operator."""
    answer = _BOLD_END.sub("", _BOLD.sub(r"\1", answer.strip()))
    inner = answer.lstrip("*_`")
    if inner != answer or answer.endswith(("**", "`")):
        inner = inner.rstrip("*_`")
    return inner.strip()


def only_formula(region: str) -> str | None:
    r"""The one LaTeX value of a region: all of it, or the only formula in a sentence without other numbers."""
    found = FORMULA.findall(region)
    if len(found) == 1:
        content = next(filter(None, found[0]), "").strip()
        before, after = FORMULA.sub("\0", region).split("\0", 1)
        changed = any(map(str.isdigit, before + after)) or may_change(before, after) or is_denied(before, after)
        return None if changed or not is_expression(content) else content
    ending = SENTENCE_END.search(region)
    whole = without_emphasis((region[: ending.start()] if ending else region).strip())
    return whole if not found and _SYMBOLIC.search(whole) and is_expression(whole) else None

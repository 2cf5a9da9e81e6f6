r"""LaTeX as people write answers in it: boxes with matched braces, and formulas as plain text.

`to_plain` turns `\frac{1}{2}` into `((1)/(2))` and `72 \text{ cm}^{2}` into `72 cm^(2)`, which the readers of numbers
and choices read. What has no plain form keeps its command, so nothing reads a number out of it: `\sqrt{16}` becomes
`√(16)`, never 16.
"""

from __future__ import annotations

import re

MAX_DEPTH = 30
"""Braces that nest deeper are not read."""
MAX_BOX = 2000
"""Nor is a box that holds more characters."""

_TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|[{}^_]|[^\\{}^_]+|\\", re.DOTALL)
BOX = re.compile("(?:\\\\(?:boxed|fbox|framebox)|\x08oxed)(?![a-zA-Z])")
"""A box's command, also where JSON has made a control character of its first letters."""
_BOX_OPENING = re.compile(r"\s{0,3}(?:\{|(?P<bare>[\d.,]{0,20}\d|[A-Za-z]))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_DOLLARS = re.compile(r"(?<![\\$])\$(?![\s$])((?:[^$\\]|\\.){1,400}?)(?<!\s)\$(?![\d$])", re.DOTALL)
_MATH = re.compile(r"\\[a-zA-Z([]|[√π∞]")
_FRACTIONS = frozenset({"frac", "dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"})
_TEXTS = frozenset(
    [
        "text",
        "textrm",
        "textbf",
        "textit",
        "textsf",
        "texttt",
        "textnormal",
        "textup",
        "textsc",
        "mathrm",
        "mathbf",
        "mathit",
        "mathsf",
        "mathtt",
        "mathcal",
        "mathbb",
        "operatorname",
        "mbox",
        "hbox",
        "fbox",
        "framebox",
        "boxed",
        "bm",
        "boldsymbol",
        "emph",
        "underline",
        "ensuremath",
        "mathord",
    ]
)
"""Commands that leave their argument as it is."""
_DROPPED = frozenset(
    [
        "left",
        "right",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "bigl",
        "bigr",
        "Bigl",
        "Bigr",
        "biggl",
        "biggr",
        "Biggl",
        "Biggr",
        "displaystyle",
        "textstyle",
        "limits",
        "nolimits",
        "bf",
        "it",
        "rm",
        "sf",
        "tt",
        "normalfont",
        "bfseries",
    ]
)
_WITH_COLOUR = frozenset({"color", "textcolor", "colorbox"})
_SYMBOLS = {
    "times": "*",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "pm": "±",
    "mp": "∓",
    "pi": "π",
    "infty": "∞",
    "circ": "°",
    "degree": "°",
    "degrees": "°",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "neq": "≠",
    "ne": "≠",
    "lt": "<",
    "gt": ">",
    "approx": "≈",
    "sim": "≈",
    "simeq": "≈",
    "cong": "≈",
    "dots": "…",
    "ldots": "…",
    "cdots": "…",
    "quad": " ",
    "qquad": " ",
    "thinspace": "\u2009",
    "pounds": "£",
    "euro": "€",
    "yen": "¥",
    "prime": "′",
    "textdollar": "$",
    "textpercent": "%",
    "degreeCelsius": "°C",
    "to": "→",
    "rightarrow": "→",
    " ": " ",
    ",": "\u2009",
    ";": " ",
    ":": " ",
    "!": "",
    "(": " ",
    ")": " ",
    "[": " ",
    "]": " ",
    "%": "%",
    "$": "$",
    "#": "#",
    "&": "&",
    "_": "_",
    "/": "",
    "-": "",
    "lbrace": "\\{",
    "rbrace": "\\}",
}
_OPERATION = re.compile(r"(?<=.)[-+*/]")
_MISREAD = re.compile("\x0c(?=rac)|\x08(?=oxed|inom)|\t(?=imes|ext|frac)|\\\\\\\\(?=[a-zA-Z]{2})")
_CONTROL = re.compile("[\x08\t\x0c]|\\\\\\\\")
_MEANT = {"\x0c": "\\f", "\x08": "\\b", "\t": "\\t", "\\\\": "\\"}
"""What JSON makes of `\\frac`, `\\boxed` and `\\times` where a backslash is missing, or one is too many."""
_HTML = re.compile(r"</?(?:b|i|u|em|strong|code|mark|ins|span|p|br|big|kbd)\b[^<>]{0,60}>", re.IGNORECASE)
_HTML_POWER = re.compile(r"<sup>\s{0,2}([^<>]{1,10}?)\s{0,2}</sup>", re.IGNORECASE)


def box_content(text: str, position: int) -> tuple[int, int, int] | None:
    r"""Where the content of a box starts and ends and where the box ends; `position` is behind `\boxed`.

    `\boxed 5` and `\boxed5` have the next character, or number, for content. None if a brace is not closed.
    """
    opening = _BOX_OPENING.match(text, position)
    if opening is None:
        return position, position, position
    if opening["bare"]:
        return opening.start("bare"), opening.end(), opening.end()
    depth = 1
    for brace in _BRACE.finditer(text, opening.end(), opening.end() + MAX_BOX):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return opening.end(), brace.start(), brace.end()
    return None


def has_math(text: str) -> bool:
    """Whether a text holds a LaTeX command, a sign such as `√` or a formula between dollar signs."""
    return _MATH.search(text) is not None or _DOLLARS.search(text) is not None


def without_dollars(text: str) -> str:
    """Without the dollar signs around formulas; those before amounts stay (`$5`, `$5 to $10`).

    The rule is that of Pandoc: no space inside next to either dollar sign, and no digit behind the second.
    """
    if "$" not in text:
        return text
    return _DOLLARS.sub(lambda match: _formula(match[1]), text.replace("$$", " "))


def _formula(content: str) -> str:
    """A formula's content, in which `!` is a factorial and ends no sentence."""
    return content.replace("!", "‼").replace("\\‼", "")


def to_plain(latex: str) -> str:
    """A text with its LaTeX and the simplest HTML as plain text; as it is where braces do not match."""
    if "<" in latex:
        latex = _HTML.sub("", _HTML_POWER.sub(r"^{\1}", latex))
    if _CONTROL.search(latex):
        latex = _MISREAD.sub(lambda match: _MEANT[match[0]], latex)
    if "\\" not in latex and "{" not in latex and "^" not in latex:
        return latex
    reader = _Reader(_TOKEN.findall(latex.replace("~", " ")))
    try:
        plain = reader.sequence(0)
    except _UnbalancedError:
        return latex
    return plain if reader.done else latex


class _UnbalancedError(Exception):
    """A brace without its fellow, or too many of them."""


class _Reader:
    """Reads tokens from left to right; every token is read once."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.tokens)

    def sequence(self, depth: int) -> str:
        """The plain text up to the closing brace of this level, which is left, or to the end."""
        if depth > MAX_DEPTH:
            raise _UnbalancedError
        parts: list[str] = []
        while not self.done and self.tokens[self.position] != "}":
            token = self._next()
            if token == "{":
                parts.append(_grouped(self._group(depth)))
            elif token in ("^", "_"):
                parts.append(_script(token, self._argument(depth)))
            elif token.startswith("\\"):
                parts.append(self._command(token[1:].rstrip("*"), depth))
            else:
                parts.append(token)
        return "".join(parts)

    def _next(self) -> str:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def _group(self, depth: int) -> str:
        content = self.sequence(depth + 1)
        if self.done:
            raise _UnbalancedError
        self.position += 1
        return content

    def _argument(self, depth: int) -> str:
        """A command's next argument: a group, a command, or a single character."""
        if self.done:
            return ""
        token = self._next()
        if token == "{":
            return self._group(depth)
        if token.startswith("\\"):
            return self._command(token[1:].rstrip("*"), depth + 1)
        if token in ("}", "^", "_"):
            raise _UnbalancedError
        stripped = token.lstrip()
        if not stripped:
            return self._argument(depth)
        if len(stripped) > 1:
            self.position -= 1
            self.tokens[self.position] = stripped[1:]
        return stripped[0]

    def _command(self, name: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise _UnbalancedError
        if name in _FRACTIONS:
            above = self._argument(depth)
            return f"(({above})/({self._argument(depth)}))"
        if name == "sqrt":
            return f"√{self._option()}({self._argument(depth)})"
        if name in _TEXTS:
            return self._argument(depth)
        if name in _WITH_COLOUR:
            self._argument(depth)
            return ""
        if name in _DROPPED:
            return " "
        if name in _SYMBOLS:
            return _SYMBOLS[name] + (" " if name.isalpha() and _SYMBOLS[name].isalpha() else "")
        return f"\\{name} "

    def _option(self) -> str:
        """A root's degree in square brackets, if there is one."""
        if self.done or not self.tokens[self.position].startswith("["):
            return ""
        degree, closing, rest = self.tokens[self.position].partition("]")
        if not closing:
            return ""
        self.tokens[self.position] = rest
        self.position += not rest
        return degree + closing


def _grouped(content: str) -> str:
    """A group's content; in parentheses if it is an operation."""
    return f"({content})" if _OPERATION.search(content.strip()) else content


def _script(mark: str, argument: str) -> str:
    """A power or an index; degrees stand without `^`."""
    return argument.strip() if mark == "^" and argument.strip() in ("°", "′", "″") else f"{mark}({argument})"

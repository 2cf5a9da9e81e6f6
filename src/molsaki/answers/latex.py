r"""LaTeX in answers: formulas as plain text.

`plain_text` turns `\frac{1}{2}` into `((1)/(2))` and `72 \text{ cm}^{2}` into `72 cm^(2)`, which the readers of numbers
and choices read. What has no plain form keeps its command, so nothing reads a number out of it: `\sqrt{16}` becomes
`√(16)`, never 16.
"""

from __future__ import annotations

import re
import unicodedata

MAX_DEPTH = 30
"""The deepest nesting of braces that is read."""

FORMULA = re.compile(
    r"(?<![\\$])\$(?![\s$])((?:[^$\\]|\\.){1,400}?)(?<!\s)\$(?![\d$])|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]",
    re.DOTALL,
)
r"""A formula between dollar signs, `\(…\)` or `\[…\]`. The dollar signs have Pandoc's rule, by which `$5 to $10` is
none: no space inside next to either, and no digit after the second."""
_DOLLARS = re.compile(FORMULA.pattern.split(r"|\\\(")[0], re.DOTALL)
_POWER = re.compile(r"\s{0,2}(?:([-−–+]?\d{1,9})|\(([-−–+]?\d{1,9}(?:/\d{1,9})?)\))")
_TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|[{}^_]|[^\\{}^_]+|\\", re.DOTALL)
_MATH = re.compile(r"\\[a-zA-Z([]|[√π∞]")


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FRACTIONS = _names("frac dfrac tfrac cfrac nicefrac sfrac")
_AS_THEY_ARE = _names(
    "text textrm textbf textit textsf texttt textnormal textup textsc mathrm mathbf mathit mathsf mathtt mathcal "
    "mathbb mathord operatorname mbox hbox fbox framebox boxed bm boldsymbol emph underline ensuremath"
)
"""Commands whose argument stays as it is."""
_DROPPED = _names(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits nolimits "
    "bf it rm sf tt normalfont bfseries tiny small normalsize large Large LARGE huge Huge"
)
_UNSEEN = _names("color textcolor colorbox phantom hphantom vphantom tag label")
"""Commands whose argument is not shown."""
_SIGNS = {
    "*": "times cdot ast",
    "/": "div",
    "±": "pm",
    "∓": "mp",
    "π": "pi",
    "∞": "infty",
    "°": "circ degree degrees",
    "°C": "degreeCelsius",
    "′": "prime",
    "<": "lt",
    ">": "gt",
    "≤": "le leq",
    "≥": "ge geq",
    "≠": "ne neq",
    "≈": "approx sim simeq cong",
    "→": "to rightarrow",
    "…": "dots ldots cdots",
    "$": "textdollar $",
    "%": "textpercent %",
    "£": "pounds",
    "€": "euro",
    "¥": "yen",
    "\\{": "lbrace",
    "\\}": "rbrace",
    "\u2009": "thinspace ,",
    " ": "quad qquad ; : ( ) [ ]",
    "": "! / -",
    "#": "#",
    "&": "&",
    "_": "_",
}
_SYMBOLS = {" ": " "} | {name: sign for sign, names in _SIGNS.items() for name in names.split()}
_VARIABLE = re.compile(r"(?<=\d)(?=[a-zA-Z](?![a-zA-Z]))(?![eE][-+]?\d)")
_OPERATION = re.compile(r"(?<=.)[-+*/]")

_HTML = re.compile(
    r"<<[^<>]{0,80}>>|</?(?:b|i|u|em|strong|code|mark|ins|span|p|br|big|kbd)\b[^<>]{0,60}>", re.IGNORECASE
)
_HTML_POWER = re.compile(r"<sup>\s{0,2}([^<>]{1,10}?)\s{0,2}</sup>", re.IGNORECASE)
_SUSPECT = re.compile("[\x08\t\x0c]|\\\\\\\\")
_MISREAD = re.compile("\x0c(?=rac)|\x08(?=oxed|inom)|\t(?=imes|ext|frac)|\\\\\\\\(?=[a-zA-Z]{2})")
_MEANT = {"\x0c": "\\f", "\x08": "\\b", "\t": "\\t", "\\\\": "\\"}
r"""What JSON makes of `\frac`, `\boxed` and `\times` where a backslash is missing, or one is too many."""

_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,9}")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_REPEATING = re.compile(
    "(?<![\\w.,])(\\d{1,9})\\.(\\d{0,9}(?!\u0305))"
    r"(?:\\(?:overline|bar)\s?(?:\{(\d{1,9})\}|(\d))"
    "|((?:\\d\u0305){1,9}))"
)
_GOES_ON = re.compile(r"(?<![\w.,])(\d{1,9})\.(\d{1,18})\s?(?:…|\.{3})")
_PERIOD = re.compile(r"(\d{1,6}?)\1+\Z")
_THIN_SPACE = re.compile(r"(?<=\d)[\u00a0\u2005-\u2009\u202f](?=\d{3}(?!\d))")
_FRACTION_UNIT = re.compile(r"\(\(([^()\d]{1,20})\)/\(([^()\d]{1,20})\)\)")
_CHARACTERS = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
    | dict.fromkeys("‐‑‒﹣", "-")
    | dict.fromkeys("⁄∕", "/")
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", "")
    | {"\u2062": "*", "。": ". ", "，": ", "}
)


def has_math(text: str) -> bool:
    """Whether a text holds a LaTeX command, a sign such as `√` or a formula between dollar signs."""
    return _MATH.search(text) is not None or _DOLLARS.search(text) is not None


def without_dollars(text: str) -> str:
    """Without the dollar signs around formulas, which are `marked`; those before amounts stay."""
    if "$" not in text:
        return text
    return _DOLLARS.sub(lambda match: marked(match[1]), _repaired(text).replace("$$", " "))


def marked(formula: str) -> str:
    """A formula with `‼` for `!`, which ends no sentence there, and `·` before a variable, which is not a unit."""
    return _VARIABLE.sub("·", formula.replace("!", "‼").replace("\\‼", ""))


def plain_text(text: str) -> str:
    """A text with its LaTeX, powers, fractions, minus signs and spaces inside numbers as the readers want them."""
    plain = _FRACTION_UNIT.sub(r" \1/\2", to_plain(text))
    if "…" in plain or "..." in plain:
        plain = _GOES_ON.sub(_going_on, plain)
    if not plain.isascii():
        plain = _SUPERSCRIPT.sub(lambda match: f"^({_compatible(match[0])})", plain)
        plain = _VULGAR.sub(lambda match: "(({})/({}))".format(*_compatible(match[0]).split("⁄")), plain)
        plain = _THIN_SPACE.sub(",", plain).translate(_CHARACTERS)
    return plain


def _repeating(match: re.Match[str]) -> str:
    r"""A repeating decimal as a fraction: `0.1\overline{6}` is `((15)/(90))`."""
    whole, fixed, *periods = match.groups("")
    return _periodic(whole, fixed, "".join(filter(str.isdigit, "".join(periods))))


def _periodic(whole: str, fixed: str, period: str) -> str:
    above = int(whole + fixed + period) - int(whole + fixed)
    return f"(({above})/({10 ** len(fixed) * (10 ** len(period) - 1)}))"


def _going_on(match: re.Match[str]) -> str:
    """A decimal that continues as a fraction, where its last digits are repeated (`0.1666…`), or else with `…`."""
    whole, decimals = match.groups()
    period = _PERIOD.search(decimals)
    if period is None:
        return f"{whole}.{decimals}…"
    return _periodic(whole, decimals[: period.start()], period[1])


def to_plain(latex: str) -> str:
    """A text without its LaTeX, the simplest HTML and GSM8K's `<<6*7=42>>`; as it is where braces do not match."""
    if "<" in latex:
        latex = _HTML.sub("", _HTML_POWER.sub(r"^{\1}", latex))
    latex = _repaired(latex)
    if "\\overline" in latex or "\\bar" in latex or "\u0305" in latex:
        latex = _REPEATING.sub(_repeating, latex)
    if not any(mark in latex for mark in "\\{}^"):
        return latex
    reader = _Reader(_TOKEN.findall(latex.replace("~", " ")))
    try:
        plain = reader.sequence(0)
    except _UnbalancedError:
        return latex
    # Braces at the end are of groups that were opened before the answer.
    return latex if "".join(reader.tokens[reader.position :]).strip(" .}$") else plain


def _repaired(latex: str) -> str:
    return _MISREAD.sub(lambda match: _MEANT[match[0]], latex) if _SUSPECT.search(latex) else latex


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


class _UnbalancedError(Exception):
    """Braces that do not match, or nest too deeply."""


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
            piece = self._next()
            if piece == "{":
                parts.append(_grouped(self._group(depth)))
            elif piece in ("^", "_"):
                parts.append(_script(piece, self._power() or self._argument(depth)))
            elif piece.startswith("\\"):
                parts.append(self._command(piece[1:].rstrip("*"), depth))
            else:
                parts.append(piece)
        return "".join(parts)

    def _next(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1]

    def _group(self, depth: int) -> str:
        content = self.sequence(depth + 1)
        if self.done:
            raise _UnbalancedError
        self.position += 1
        return content

    def _power(self) -> str:
        """All digits of a power without braces, which LaTeX would end after the first: `2^10`, `10^-3`."""
        power = _POWER.match("" if self.done else self.tokens[self.position])
        if power is None:
            return ""
        self.tokens[self.position] = power.string[power.end() :]
        return power[1] or power[2]

    def _argument(self, depth: int) -> str:
        """A command's next argument: a group, a command, or a single character."""
        if self.done:
            return ""
        piece = self._next()
        if piece == "{":
            return self._group(depth)
        if piece.startswith("\\"):
            return self._command(piece[1:].rstrip("*"), depth + 1)
        if piece in ("}", "^", "_"):
            raise _UnbalancedError
        stripped = piece.lstrip()
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
            return f"√{self._degree()}({self._argument(depth)})"
        if name in _AS_THEY_ARE:
            return self._argument(depth)
        if name in _UNSEEN:
            self._argument(depth)
            return ""
        if name in _DROPPED:
            return " "
        return _SYMBOLS.get(name, f"\\{name} ")

    def _degree(self) -> str:
        """A root's degree in square brackets, if it has one."""
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
    r"""A power or an index; degrees and the ending of `10^{\text{th}}` have no `^`."""
    raised = argument.strip()
    return raised if mark == "^" and raised in ("°", "′", "″", "st", "nd", "rd", "th") else f"{mark}({argument})"

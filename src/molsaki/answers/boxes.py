r"""Boxes in LaTeX, with what surrounds them and changes their value: `-\boxed{5}`, `\boxed{50}\%`, `\boxed{3}\pi`.

What cannot be calculated with (`\boxed{5} + 6`, `\frac{\boxed{3}}{4}`, a dash that may be a minus) makes the content
unparsable, by a `^` after it.
"""

from __future__ import annotations

import re

MAX_BOXES = 8
"""The largest number of boxes that are read in one answer."""
MAX_BOX = 2000
"""The largest number of characters of a box, its end included."""
MAX_BEFORE, MAX_BEHIND = 40, 24
"""The number of characters before a box, and after what belongs to it, that are examined."""
MAX_WORD = 8

BOX = re.compile("(?:\\\\(?:boxed|fbox|framebox)|\x08oxed)(?![a-zA-Z])")
"""A box's command, also where JSON has made a control character of its first letters."""
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_OPENING = re.compile(r"\s{0,3}(?:\{|(?P<bare>[\d.,]{0,20}\d|[A-Za-z]))")

_UNCLEAR = " ^"
_DASH = re.compile(r"(?P<dash>[-−–])(?P<space>[ \t]?)(?:\$|\\[(\[])?(?P<inner>[ \t]?)\Z")
_VERB = re.compile(r"(?:\b(?:is|be|was|equals?|gets?|gives?|becomes?|to)|:)\s{0,2}\Z", re.IGNORECASE)
_PART_OF_MORE = re.compile(
    r"(?:[\d±∓√]|\\(?:pm|mp|sqrt(?:\[\w{1,3}\])?|[dtc]?frac|nicefrac|sfrac|log|ln|sin|cos|tan)\s?[{(]?|\}\s?\{|[/^_]\s?\{?)"
    r"\s?\Z"
)
_STATED_BEFORE = re.compile(r"(?<![\d.,/*^×·+−-])(?<![/*^×·+−-] )([\d.,]{0,20}\d)\$?\s{1,3}\$?\Z")
_WORDS = (
    r"(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|(?-i:half|halve|third|quarter|fourth|fifth|sixth|"
    r"seventh|eighth|ninth|tenth|hundredth|thousandth|ten))s?"
)
_SKIPPED = r"(?:[ \t$~}]|\\[,;: )\]!]|\\(?:text|mathrm|mbox|textbf)\s?\{){0,8}"
_PERCENT = r"\\?%|per\s?cent\b(?! ?points?)|pct\b"
_OTHER_WORDS = (
    r"(?:(?-i:[kKMBT])|[mb]n|bil|mil|mio|mrd|bps?|basis)(?![\w'])"
    r"|(?:or|to|plus|minus|times|divided by|out of)\b(?=\W{0,4}\d)|(?:squared|cubed)\b"
)
_POWER = r"\^(?!\s?\{?\s?(?:\\circ|\\degree|\\prime|[°'′]))|_[\d{]|!(?=\$|\\[)\]])"
_OPERATION = (
    r"[-−–+*/×·÷](?=[ \t]?(?:\d|\\(?!text)[a-zA-Z]|\())|\+(?=[ \t]?[a-zA-Z]\b)|:(?=\$?\d)"
    r"|\\(?:times|cdot|div|ast|over|choose|pm|mp|[bp]?mod)\b"
)
_FACTOR = (
    r"(?:[ \t]|\\[,!;:]){0,3}(?:\\(?:pi|sqrt|[dtc]?frac|nicefrac|sfrac|log|ln|sin|cos|tan|theta|alpha|beta|lambda|phi|"
    r"infty)(?![a-zA-Z])|[π√∞])"
)
_VARIABLE = r"[a-zA-Z](?![a-zA-Z'])(?=[\w ^{}+-]{0,20}(?:\$|\\[)\]]))"
_BEHIND = re.compile(
    rf"{_SKIPPED}(?:(?P<percent>{_PERCENT})|(?P<words>{_WORDS}(?: {_WORDS}){{0,2}}\b)|{_OTHER_WORDS})"
    rf"|[ \t$}}]{{0,3}}(?:{_POWER}|{_OPERATION})"
    rf"|(?P<tail>[.,]\d|[ \t]?\d|{_FACTOR}|{_VARIABLE})",
    re.IGNORECASE,
)
r"""What belongs to the value of the box before it: a percent sign, words of scale and a `tail` that can be calculated
with; all else is unclear."""
_TIMES_POWER = re.compile(r"[ \t$]{0,3}(?:\\times|\\cdot|[×·*x])\s{0,2}10\s?\^")
_TAIL = re.compile(r"(?:(?![$=\n;]|,(?!\d)|\\[)\]]|\\text|\.(?:\s|\Z)).){1,60}")
_SUM = re.compile(r"(?<=.)[-+−=]")


def box_content(text: str, position: int) -> tuple[int, int, int] | None:
    r"""Where the content of a box starts and ends and where the box ends; `position` is after `\boxed`.

    `\boxed 5` and `\boxed5` have the next character, or number, for content. None if a brace is not closed.
    """
    opening = _OPENING.match(text, position)
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


def box_span(text: str, start: int, end: int) -> tuple[int, int]:
    """From where to where a text belongs to the value of the box that starts and ends at these positions."""
    mark, begin = _before(text, start, end)
    return begin if mark else start, _behind(text, end)[1]


def boxes_of(region: str) -> list[str]:
    """The contents of the closed boxes in a text, in order, each with what around it changes its value."""
    found: list[str] = []
    position = 0
    for _ in range(MAX_BOXES):
        match = BOX.search(region, position)
        if match is None:
            break
        content = box_content(region, match.end())
        position = match.end() if content is None else content[2]
        if content is not None and region[content[0] : content[1]].strip():  # "put it in \boxed{}"
            found.append(_whole(region, match.start(), content))
    return found


def _whole(region: str, start: int, content: tuple[int, int, int]) -> str:
    value = region[content[0] : content[1]]
    if not any(map(str.isdigit, value)):  # a letter or a word
        return value
    mark, _ = _before(region, start, content[2])
    tail, _ = _behind(region, content[2])
    if not mark and not tail:
        return value
    if _UNCLEAR in (mark, tail):
        return value + _UNCLEAR
    return mark + (f"({value})" if _SUM.search(value) else value) + tail


def _before(text: str, start: int, end: int) -> tuple[str, int]:
    """What changes the value of a box from in front (a minus sign, nothing, or unclear), and where it starts."""
    first = max(0, start - MAX_BEFORE)
    before = text[first:start]
    dash = _DASH.search(before)
    if dash is not None:
        left = before[: dash.start()]
        return _sign(left, dash), first + max(0, len(left.rstrip()) - MAX_WORD)
    stated = _STATED_BEFORE.search(before)
    if stated is not None and stated[1] in re.findall(r"[\d.,]*\d", text[start:end]):  # "the answer is 42 \boxed{42}"
        return "", start
    part = _PART_OF_MORE.search(before)
    if part is None or (part[0].startswith("/") and text[end : end + 8].lstrip(" $}").startswith("=")):
        return "", start
    return _UNCLEAR, first + part.start()


def _sign(left: str, dash: re.Match[str]) -> str:
    """What a dash before a box is: a minus sign, a bullet or an operator (nothing), or unclear."""
    attached = not (dash["space"] or dash["inner"])
    last = left.rstrip()[-1:]
    if left.endswith("\n") and not attached:  # a bullet
        return ""
    if last in tuple("=({[$<>≤≥"):
        return "-"
    if last.isdigit() or last in tuple(")}%") or (attached and left[-1:].isalnum()):  # an operator
        return ""
    if attached:
        return "-"
    return _UNCLEAR if not last or dash["dash"] == "−" or _VERB.search(left) else ""


def _behind(text: str, end: int) -> tuple[str, int]:
    """What changes the value of a box after it, and where the text ends that shows it."""
    behind = _BEHIND.match(text, end)
    if _TIMES_POWER.match(text, end) or (behind is not None and behind["tail"]):
        tail = _TAIL.match(text, end)
        return (tail[0].replace("$", " "), _shown(text, tail.end())) if tail else (_UNCLEAR, end)
    if behind is None:
        return "", end
    if behind["percent"]:
        return r"\%", behind.end()
    return f" {behind['words']}" if behind["words"] else _UNCLEAR, _shown(text, behind.end())


def _shown(text: str, end: int) -> int:
    """The end of what patterns look at after a position: a few characters of the same line."""
    limit = min(len(text), end + MAX_BEHIND)
    newline = text.find("\n", end, limit)
    return limit if newline < 0 else newline

"""Problems inside a completion: one that is restated at its start, and those that a model invents after its answer."""

from __future__ import annotations

import re

from molsaki.answers.markers import MARKER

_PROBLEM_LABEL = re.compile(
    r"(?:\A|\n|(?<=[.!?)]))[ \t]{0,8}(?:[*#]{1,4}[ \t]?)?"
    r"(?P<kind>Q|(?:Next |New )?(?:Question|Problem|Exercise)|Answer Choices|Input|Instruction|User|Human)"
    r"(?:[ \t]?\d{1,4})?[ \t]?\*{0,2}:",
    re.IGNORECASE,
)
_SOLUTION_LABEL = re.compile(
    r"\n[*#\s]{0,8}(?:A|Answer(?! choices| options)|Solution|Response|Explanation|Reasoning|Output|Assistant)\b"
    r"|[.?!]\s{1,3}(?:A|Answer|Solution)\s?:",
    re.IGNORECASE,
)
_COMMON = frozenset({"exercise", "input", "instruction", "user", "human"})
"""Words that also label a line of a solution."""
_PREAMBLE = re.compile(
    r"\s{0,8}(?:(?:sure|okay|ok|certainly|of course|let me|let's|let us|here(?:'s| is)|i will|i'll|first)\b"
    r"[^\n\d]{0,80}[:!.]|[*#\s-]{0,12})\s{0,8}",
    re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\n[ \t\r]{0,8}\n")


def before_next_question(text: str) -> str:
    """The text up to a line that starts another question (`Q:` or its like).

    A question at the start is the problem itself, with its choices or its input, and ends nothing.
    """
    own: set[str] = set()
    solved, answered = _SOLUTION_LABEL.search(text), MARKER.search(text)
    *_, last = (None, *_SOLUTION_LABEL.finditer(text))
    asks = max(text.rfind("?"), -1 if last is None else last.start())  # where the last question or solution begins
    for label in _PROBLEM_LABEL.finditer(text):
        kind = label["kind"].casefold()
        restated = _PREAMBLE.fullmatch(text, 0, label.start()) if not own else kind in ("answer choices", "input")
        if not restated or kind in own or _is_before(solved, label):
            # "Exercise: 30 minutes" is a line of the solution where nothing is answered before it or asked after it.
            if kind in _COMMON and not _is_before(answered, label) and asks < label.end():
                continue
            return text[: label.start()]
        own.add(kind)
    return text


def _is_before(match: re.Match[str] | None, label: re.Match[str]) -> bool:
    return match is not None and match.end() <= label.start()


def another_problem(text: str, start: int) -> int:
    """Where, after an answer, a new paragraph asks something; the text's end if none does."""
    paragraph = _PARAGRAPH.search(text, start)
    question = text.find("?", paragraph.end()) if paragraph else -1
    return len(text) if question < 0 else question


def end_of_restated(text: str) -> int:
    """The end of a problem that is restated at the start of a text; 0 if none is."""
    label = _PROBLEM_LABEL.search(text)
    if label is None or not _PREAMBLE.fullmatch(text, 0, label.start()):
        return 0
    ending = _SOLUTION_LABEL.search(text, label.end()) or _PARAGRAPH.search(text, label.end())
    newline = text.find("\n", label.end())
    return ending.start() if ending else len(text) if newline < 0 else newline

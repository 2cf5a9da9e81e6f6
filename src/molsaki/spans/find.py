"""Steps and keys of an example, as spans of characters in the two texts that both models share.

They are found once per example, in the question and in the rationale. `molsaki.spans.align` then finds their tokens
for each tokenizer. So the teacher's side and the student's side have the same steps and keys, whatever their
vocabularies and prompts are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from molsaki.errors import SpanError
from molsaki.spans.keywords import keyword_spans
from molsaki.spans.steps import StepRule, step_spans

SPAN_RULES = "3"
"""The version of these rules. Artefacts of different versions do not go together."""
MAX_KEYS = 10_000
"""The most keys that a regular expression may find in a text."""

TextName: TypeAlias = Literal["question", "rationale"]
Keys: TypeAlias = Literal["numbers"] | Sequence[str] | re.Pattern[str]

# A letter directly before digits makes a name of them, but for the multiplication 2x50, after a word that lacks
# its space (him16), and in scripts without spaces (Thai, Lao, kana, Han, Hangul).
_LETTER = r"[^\W\d_xX\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_NUMBER = re.compile(
    rf"(?:(?<![a-z]{{2}}){_LETTER}|(?<![a-z]{{2}})(?<!\d)[xX]|[A-Z]{{2}}-)\d+(?:[.,]\d+)*"
    r"|(?P<number>(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2}){1,9},\d{3}|\d+)(?!\d)(?:\.\d+)?|(?<!\d)\.\d+|[¼-¾⅐-⅞])"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of one of the two texts."""

    text: TextName
    start: int
    end: int

    def of(self, question: str, rationale: str) -> str:
        """The span's characters."""
        return (question if self.text == "question" else rationale)[self.start : self.end]

    def overlaps(self, other: Span) -> bool:
        """Whether the two have a character in common."""
        return self.text == other.text and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Spans:
    """The steps and keys of one example, each in reading order and without overlap.

    Attributes:
        steps: the question, then every sentence of the rationale.
        keys: the numbers or key words of the question, then those of the rationale.
        leading_space: whether a token of white space alone, directly before a span, belongs to that span; not in rows
            before keys.
        before: whether the token of a step is the one directly before the step's span, which predicts its first token.
    """

    steps: tuple[Span, ...]
    keys: tuple[Span, ...]
    leading_space: bool = False
    before: bool = False

    @property
    def n_steps(self) -> int:
        """Number of rows of stepwise attention."""
        return len(self.steps)

    @property
    def n_keys(self) -> int:
        """Number of columns of stepwise attention."""
        return len(self.keys)


def find_spans(question: str, rationale: str, keys: Keys = "numbers", steps: StepRule = "sentences") -> Spans:
    """Find the steps and keys of a question and its rationale (paper §3.2, Eq. 2 and 3 sum over them).

    Steps: the question, whatever its punctuation, then each sentence and each line of the rationale.

    Keys: every occurrence is a key. `"numbers"` are digits with their thousands commas and decimals (`1,234.50` is
    one key, `1, 234` and `1/2` are two). A sign, a currency or a percent sign is not part of a number, so that
    `7-5` and `7 - 5` have the same keys. Digits before letters count (`2nd`, `2x`, `120-page`); digits in a name
    (`A4`, `x2`, `COVID-19`) and number words do not. A sequence of words gives their occurrences by the rules of
    `keyword_spans`. A compiled regular expression gives its matches; the time it takes is not bounded.

    Example:
        >>> import molsaki
        >>> question, rationale = "Ada has 3 pens and buys 14. How many?", "She had 3. Now it is 3 + 14 = 17."
        >>> spans = molsaki.find_spans(question, rationale)
        >>> [step.of(question, rationale) for step in spans.steps]
        ['Ada has 3 pens and buys 14. How many?', 'She had 3.', 'Now it is 3 + 14 = 17.']
        >>> [key.of(question, rationale) for key in spans.keys]
        ['3', '14', '3', '3', '14', '17']

    Args:
        question: the question's text, without prompt.
        rationale: the rationale's text; empty if there is none.
        keys: `"numbers"`, key words, or a compiled regular expression.
        steps: what a step of the rationale is; see `step_spans`.

    Raises:
        SpanError: the question has no letter or digit, a key word is empty, or a regular expression matches white
            space or nothing, or more than `MAX_KEYS` times.
    """
    if not any(map(str.isalnum, question)):
        raise SpanError(
            f"Expected a question with at least one letter or digit; got {question[:60]!r}. The question is the first "
            "step, and this one has nothing to read; leave the example out."
        )
    start = len(question) - len(question.lstrip())
    found_steps = [Span("question", start, len(question.rstrip()))]
    found_steps += [Span("rationale", *span) for span in step_spans(rationale, steps)]
    found = [Span("question", *span) for span in _key_spans(question, keys)]
    found += [Span("rationale", *span) for span in _key_spans(rationale, keys)]
    return Spans(tuple(found_steps), tuple(found))


def _key_spans(text: str, keys: Keys) -> list[tuple[int, int]]:
    if isinstance(keys, re.Pattern):
        return _pattern_spans(text, keys)
    if not isinstance(keys, str):
        return keyword_spans(text, keys)
    if keys != "numbers":
        raise SpanError(
            f"Expected keys to be 'numbers', a sequence of key words or a compiled regular expression; got the string "
            f"{keys!r}. No keys were found; write [{keys!r}] for one key word."
        )
    return [match.span() for match in _NUMBER.finditer(text) if match["number"]]


def _pattern_spans(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    if not isinstance(pattern.pattern, str):
        raise SpanError(
            f"Expected a regular expression for str; got one for bytes, {pattern.pattern!r}. It cannot be applied; "
            "compile it from a str."
        )
    spans = []
    for match in pattern.finditer(text):
        found = match[0].strip()
        if not found:
            raise SpanError(
                f"Expected the regular expression {pattern.pattern!r} to match visible characters; got an empty match "
                f"at character {match.start()} of {text[:60]!r}. Such a key has no token; change the expression."
            )
        start = match.start() + match[0].index(found)
        spans.append((start, start + len(found)))
        if len(spans) > MAX_KEYS:
            raise SpanError(
                f"Expected at most {MAX_KEYS} keys in a text; got more from {pattern.pattern!r}. Stepwise attention "
                "would be too large; make the expression narrower."
            )
    return spans

"""Steps and keys of an example, as spans of characters in the two texts that both models share.

They are found once per example, in the question and in the rationale, before any tokenizer sees them; each
tokenizer then maps them to its own tokens (`span_tokens`). So there are as many steps and keys on the teacher's
side as on the student's, whatever their vocabularies and prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from molsaki.errors import SpanError
from molsaki.spans.keywords import keyword_spans
from molsaki.spans.steps import StepRule, step_spans

SPAN_RULES = "1"
"""The version of these rules, for manifests: artefacts of two versions must not be mixed."""
MAX_KEYS = 10_000
"""A regular expression that finds more keys in an example than this is a mistake."""

TextName: TypeAlias = Literal["question", "rationale"]
Keys: TypeAlias = Literal["numbers"] | Sequence[str] | re.Pattern[str]

# A letter directly before digits makes a name of them, but for the multiplication 2x50, behind a word that lacks
# its space (him16), and in scripts without spaces (Thai, Lao, kana, Han, Hangul).
_LETTER = r"[^\W\d_xX\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_NUMBER = re.compile(
    rf"(?:(?<![a-z]{{2}}){_LETTER}|(?<![a-z]{{2}})(?<!\d)[xX]|[A-Z]{{2}}-)\d+(?:[.,]\d+)*"
    r"|(?P<number>(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2}){1,9},\d{3}|\d+)(?!\d)(?:\.\d+)?|(?<!\d)\.\d+|[¼-¾⅐-⅞])"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of one of the two texts."""

    text: TextName
    start: int
    end: int

    def of(self, question: str, rationale: str) -> str:
        """The characters themselves."""
        return (question if self.text == "question" else rationale)[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Spans:
    """The steps and keys of one example, each in reading order and without overlap.

    Attributes:
        steps: the question, then every sentence of the rationale.
        keys: the numbers or key words of the question, then those of the rationale.
    """

    steps: tuple[Span, ...]
    keys: tuple[Span, ...]

    @property
    def n_steps(self) -> int:
        """How many rows stepwise attention has."""
        return len(self.steps)

    @property
    def n_keys(self) -> int:
        """How many columns stepwise attention has."""
        return len(self.keys)


def find_spans(question: str, rationale: str, keys: Keys = "numbers", steps: StepRule = "sentences") -> Spans:
    """Find the steps and keys of a question and its rationale (paper §3.2, Eq. 2 and 3 sum over them).

    Steps: the question, whatever punctuation it has, then each sentence and each line of the rationale.

    Keys, each occurrence its own: `"numbers"` are digits with their thousands commas and decimals (`1,234.50` is
    one key, `1, 234` and `1/2` are two). A sign, a currency or a percent sign is not part of a number, so that
    `7-5` and `7 - 5` have the same keys. Digits before letters count (`2nd`, `2x`, `120-page`), digits in a name do
    not (`A4`, `x2`, `COVID-19`); number words are no numbers. A sequence of words gives the occurrences of each by
    the rules of `keyword_spans`; a compiled regular expression gives its matches, for whose cost its author answers.

    Args:
        question: the question's text, without prompt.
        rationale: the rationale's text; empty if there is none.
        keys: `"numbers"`, key words, or a compiled regular expression.
        steps: what a step of the rationale is; see `step_spans`.

    Raises:
        SpanError: the question has no letter or digit, a key word is empty, or a regular expression matches
            nothing but space, or more than `MAX_KEYS` times.
    """
    if not any(map(str.isalnum, question)):
        raise SpanError(
            f"Expected a question with at least one letter or digit, got {question[:60]!r}. It is the first step "
            f"and would have no token; leave this example out."
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
            f"Expected keys to be 'numbers', a sequence of key words or a compiled regular expression, got the text "
            f"{keys!r}. No keys were found; write [{keys!r}] for one key word."
        )
    return [match.span() for match in _NUMBER.finditer(text) if match["number"]]


def _pattern_spans(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    if not isinstance(pattern.pattern, str):
        raise SpanError(
            f"Expected a regular expression for text, got one for bytes, {pattern.pattern!r}. It cannot be applied; "
            f"compile it from a str."
        )
    spans = []
    for match in pattern.finditer(text):
        found = match[0].strip()
        if not found:
            raise SpanError(
                f"Expected the regular expression {pattern.pattern!r} to match keys, got an empty match at character "
                f"{match.start()} of {text[:60]!r}. A key without characters has no token; make it match some."
            )
        start = match.start() + match[0].index(found)
        spans.append((start, start + len(found)))
        if len(spans) > MAX_KEYS:
            raise SpanError(
                f"Expected at most {MAX_KEYS} keys in a text, got more from {pattern.pattern!r}. Stepwise attention "
                f"of that size is no use; make the expression narrower."
            )
    return spans

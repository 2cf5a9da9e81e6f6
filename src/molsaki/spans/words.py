"""Words of an example, as rows and columns of attention that two tokenizers have in common.

Two models cut the same text into other tokens, but both know which characters a token covers; so a word, found once in
the shared text, is each model's own few tokens, as a step or a key is.
"""

from __future__ import annotations

import re

from molsaki.spans.find import Span, Spans

WORD_RULES = "1"
"""The version of these rules, for manifests: artefacts of two versions must not be mixed."""

# Letters take the marks that are written over them; an underscore is neither a letter nor space.
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f])*|\d+(?:[.,]\d+)*|\S")


def find_words(question: str, rationale: str) -> Spans:
    """Find the words of a question and its rationale: every word of the rationale a row, every word of both a column.

    A word is a maximal run of letters (and of signs for numbers that are no digits, such as `²`); a maximal run of
    digits with the periods and commas inside it (`1,234.50`); or any other single character that is not space (`+`,
    `.`, `’`).

    Args:
        question: the question's text, without prompt.
        rationale: the rationale's text.

    Returns:
        Spans whose steps are the rationale's words, and whose keys are the question's words and then the rationale's.
    """
    rows = tuple(Span("rationale", *match.span()) for match in _WORD.finditer(rationale))
    asked = tuple(Span("question", *match.span()) for match in _WORD.finditer(question))
    return Spans(rows, asked + rows)

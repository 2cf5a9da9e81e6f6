"""Words of an example, as rows and columns of attention that two tokenizers have in common.

Two tokenizers split a text differently, but both return the characters that each token covers. So words are found
once in the shared text, as steps and keys are, and aligned with each model's own tokens.

A word has the white space before it: most tokenizers join the two in one token (`Ġ12`), but those that split digits
give a number's space a token of its own (`▁`, `1`, `2`). A model then reads the number's source at the space, before
it writes the digits.
"""

from __future__ import annotations

import re

from molsaki.spans.find import Span, Spans
from molsaki.spans.scripts import MARKS

WORD_RULES = "3"
"""The version of these rules. Artefacts of different versions do not go together."""

# Combining marks stay with their letter. An underscore is a character of its own.
_WORD = re.compile(rf"(?:[^\W\d_][{MARKS}]*)+|\d+(?:[.,]\d+)*|\S")


def find_words(question: str, rationale: str) -> Spans:
    """Find the words of a question and its rationale, as rows and columns of attention.

    Every word of the rationale is a row, every word of both texts is a column. A word is a maximal run of letters (and
    of numeric characters that are not digits, such as `²`); a maximal run of digits with the periods and commas inside
    it (`1,234.50`); or any other single character that is not white space (`+`, `.`, `’`). A token of white space
    alone, directly before a word of the same text, belongs to that word; white space of the prompt does not.

    Example:
        >>> import molsaki
        >>> question, rationale = "How many?", "3 + 14 pens."
        >>> words = molsaki.find_words(question, rationale)
        >>> [row.of(question, rationale) for row in words.steps]
        ['3', '+', '14', 'pens', '.']
        >>> [column.of(question, rationale) for column in words.keys]
        ['How', 'many', '?', '3', '+', '14', 'pens', '.']

    Args:
        question: the question's text, without prompt.
        rationale: the rationale's text.

    Returns:
        Spans with `leading_space`: the rationale's words as steps, and the question's and then the rationale's words
        as keys.
    """
    rows = tuple(Span("rationale", *match.span()) for match in _WORD.finditer(rationale))
    asked = tuple(Span("question", *match.span()) for match in _WORD.finditer(question))
    return Spans(rows, asked + rows, leading_space=True)

"""Characters of scripts other than Latin, as classes of regular expressions."""

from __future__ import annotations

import unicodedata

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Scripts that write no space between words: Thai, kana, Han."""
MARKS = "\u200c\u200d" + "".join(c for c in map(chr, range(0x300, 0xAC00)) if unicodedata.category(c)[0] == "M")
"""Marks that belong to the letter before them, such as the vowel signs of Devanagari, and joiners within a word."""

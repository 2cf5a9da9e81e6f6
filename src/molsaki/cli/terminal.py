"""Text from data and models, made safe for a terminal."""

from __future__ import annotations

import rich.markup

_REPLACED: dict[int, int | None] = {
    # C0 control characters, such as ESC, become their pictures, such as ␛. Tabs and line breaks stay.
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    ord("\r"): None,
    0x7F: 0x2421,
    # C1 control characters, line separators, and bidirectional marks, embeddings, overrides and isolates have none.
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
    **dict.fromkeys([0x061C, 0x200E, 0x200F], 0xFFFD),
}


def visible(text: str) -> str:
    """Replace characters that control a terminal or reverse the order of text by visible ones."""
    return text.translate(_REPLACED)


def escape(text: str) -> str:
    """Escape text for rich: neither markup nor control characters in it have an effect."""
    return rich.markup.escape(visible(text))

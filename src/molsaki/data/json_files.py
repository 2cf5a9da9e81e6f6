"""JSON and JSON lines, read row by row: no file is parsed into memory as a whole.

Values that are not numbers (NaN, Infinity) and objects with one key twice are refused. A file that ends in the middle
of a value was cut, as an interrupted download leaves it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from molsaki.data import files
from molsaki.data.files import CUT_WAY_OUT, FIX_WAY_OUT, UTF_8, open_text, read_lines, read_text, refuse_long_row
from molsaki.errors import DataError

CHUNK = 1 << 18
"""The number of characters that are read at a time."""
MARGIN = 32
"""A number that ends this close to the end of the buffer may continue after it."""

_BLANKS = re.compile(r"[ \t\r\n]*")
_CUT_NUMBER = re.compile(r"-?\d+(?:\.|(?:\.\d+)?[eE][+-]?)")
"""The beginning of a number that is longer than the number that is read from it: `0.`, `1e`, `1.5e+`."""


def read_json(path: Path, encoding: str = UTF_8) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: the file is missing, too large, in another encoding, not JSON or cut in the middle.
    """
    text = read_text(path, encoding=encoding)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if is_cut(text, error):
            _refuse_cut(path, text.count("\n") + 1, error)
        _refuse_malformed(path, error.lineno, error)
    except (ValueError, RecursionError) as error:
        raise DataError(f"Expected {path} to hold one JSON value; {_reason(error)}. {FIX_WAY_OUT}") from error


def read_json_lines(path: Path, encoding: str = UTF_8) -> Iterator[Any]:
    """The values of a JSON lines file in order; blank lines are passed over.

    Raises:
        DataError: the file is missing, too large or in another encoding; a line is not JSON; the last line is cut.
    """
    found_any = False
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip():
            continue
        found_any = True
        try:
            yield _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith("\n") and isinstance(error, json.JSONDecodeError):
                raise DataError(
                    f"Expected every line of {path} to be one JSON value; line {number}, the last one, has no end of "
                    f"line and is cut after {len(line)} characters. {CUT_WAY_OUT}"
                ) from error
            raise DataError(
                f"Expected every line of {path} to be one JSON value; line {number}: {_reason(error)}. {FIX_WAY_OUT}"
            ) from error
    if not found_any:
        raise DataError(f"Expected rows in {path}; all its lines are blank. {CUT_WAY_OUT}")


def read_json_list(path: Path, encoding: str = UTF_8, under: str | None = None) -> Iterator[Any]:
    """The rows of a file that is one JSON list, each read when it is asked for.

    Args:
        path: the file.
        encoding: its encoding.
        under: the list is the value of this key of one JSON object.

    Raises:
        DataError: as `read_json`, there is no list, or a row is longer than `MAX_ROW_CHARACTERS`.
    """
    with open_text(path, encoding) as file:
        buffer = _Buffer(path, file)
        if under is not None and not buffer.find_key(under):
            raise DataError(
                f"Expected {path} to be one JSON object with the key {under!r}; it is not. Nothing was loaded from it; "
                "correct `rows`."
            )
        if (first := buffer.next_character()) != "[":
            raise DataError(
                f"Expected {path} to hold a JSON list of rows; it {'is blank' if not first else 'holds another value'}."
                " No row can be read from it; check that it is the file of that data set."
            )
        buffer.at += 1
        more = buffer.next_character() != "]"
        while more:
            yield buffer.value()
            more = buffer.separator("]")
        buffer.at += 1
        if under is not None:
            while buffer.separator("}"):
                buffer.pair(None)
            buffer.at += 1
        if buffer.next_character():
            buffer.refuse("extra data after the value")


class _Buffer:
    """The part of a JSON text that is being read."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file = path, file
        self.text, self.at, self.line = "", 0, 1

    def more(self) -> bool:
        """Read at least as much as is left in the buffer; returns False at the end of the file, without a change."""
        added = self.file.read(max(CHUNK, len(self.text) - self.at))
        if added:
            self.line += self.text.count("\n", 0, self.at)
            self.text, self.at = self.text[self.at :] + added, 0
        return bool(added)

    def next_character(self) -> str:
        """Go to the next character that is not a blank; nothing at the end of the file."""
        while True:
            blanks = _BLANKS.match(self.text, self.at)
            assert blanks is not None
            self.at = blanks.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """Read the next value, and as much of the text as that takes."""
        self.next_character()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not is_cut(self.text, error):
                    self.refuse(error.msg, error.pos)
                if len(self.text) - self.at > files.MAX_ROW_CHARACTERS:
                    refuse_long_row(self.path, self.line_at(self.at))
                if not self.more():
                    _refuse_cut(self.path, self.line_at(len(self.text)), error)
            except (ValueError, RecursionError) as error:
                self.refuse(_reason(error))
            else:
                if end - self.at > files.MAX_ROW_CHARACTERS:
                    refuse_long_row(self.path, self.line_at(self.at))
                if len(self.text) - end >= MARGIN or not self.more():
                    if _CUT_NUMBER.fullmatch(self.text, self.at):
                        _refuse_cut(self.path, self.line_at(len(self.text)), None)
                    self.at = end
                    return value

    def separator(self, end: str) -> bool:
        """Skip the comma after a value; returns False at the bracket that ends the list or the object."""
        found = self.next_character()
        if found == ",":
            self.at += 1
            return True
        if not found:
            _refuse_cut(self.path, self.line_at(len(self.text)), None)
        if found != end:
            self.refuse("Expecting ',' delimiter")
        return False

    def find_key(self, wanted: str) -> bool:
        """Move to the value of a key of the file's object; returns False if the object lacks the key."""
        if self.next_character() != "{":
            return False
        self.at += 1
        more = self.next_character() != "}"
        while more:
            if self.pair(wanted):
                return True
            more = self.separator("}")
        return False

    def pair(self, wanted: str | None) -> bool:
        """Read a key and its value, or only the key if it is the wanted one."""
        key = self.value()
        if self.next_character() != ":":
            self.refuse("Expecting ':' delimiter")
        self.at += 1
        if key == wanted:
            return True
        self.value()
        return False

    def line_at(self, position: int) -> int:
        """The line of the file, from 1, that a position of the text is in."""
        return self.line + self.text.count("\n", 0, position)

    def refuse(self, what: str, position: int | None = None) -> NoReturn:
        """Raise for what is wrong at a position."""
        position = self.at if position is None else position
        raise DataError(
            f"Expected {self.path} to hold one JSON list; line {self.line_at(position)}: {what}. {FIX_WAY_OUT}"
        )


def json_or_text(text: str) -> Any:
    """The value of a text that is JSON; else the text itself."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return text


def is_json(text: str) -> bool:
    """Whether a text is one JSON value."""
    return json_or_text(text) is not text


def breaks_off(text: str) -> bool:
    """Whether a text is the incomplete beginning of a JSON value."""
    try:
        _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return is_cut(text, error)
    except (ValueError, RecursionError):
        return False
    return False


def is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether parsing failed because the text ends, perhaps inside a word such as `tru`, and nothing else."""
    rest = text[error.pos : error.pos + 100].strip()
    return error.msg.startswith("Unterminated string") or (len(rest) <= 8 and not re.search(r"[\]}]", rest))


def _refuse_cut(path: Path, line: int, error: json.JSONDecodeError | None) -> NoReturn:
    raise DataError(
        f"Expected {path} to hold one whole JSON value; it ends in the middle of it, at line {line}. {CUT_WAY_OUT}"
    ) from error


def _refuse_malformed(path: Path, line: int, error: json.JSONDecodeError) -> NoReturn:
    raise DataError(
        f"Expected {path} to hold one JSON value; line {line}, column {error.colno}: {error.msg}. {FIX_WAY_OUT}"
    ) from error


def _reason(error: Exception) -> str:
    """The reason of a JSON error, without the file's content."""
    if isinstance(error, json.JSONDecodeError):
        return f"column {error.colno}: {error.msg}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _with_one_value_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; of a key that is there twice one value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has one key twice")
    return found


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_with_one_value_each
)

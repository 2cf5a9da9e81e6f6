"""The columns of a row: by name, or by a path into a column whose values have parts.

    q                        a column
    choices.text             a part of an object; of a list of objects, that part of each
    messages[1].content      a part of the second element of a list; -1 is the last
    conversations[human]     the text of the only turn of a chat with this role (`role` or `from`)

A column whose name is the whole path takes precedence. A cell of text with parts is read as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from molsaki.data.json_files import json_or_text
from molsaki.data.rows import UnusableRowError
from molsaki.errors import DataError

MAX_NAMES = 50
"""The number of existing names that a column remembers for its error message."""
ROLE, CONTENT = ("role", "from"), ("content", "value")
"""The keys of a chat's turns for the speaker and for the text."""
SHAPES = {
    "conversations": "question: 'conversations[human]', answer: 'conversations[gpt]', answer_is: stated, "
    "rationale: 'conversations[gpt]'",
    "messages": "question: 'messages[user]', answer: 'messages[assistant]', answer_is: stated, "
    "rationale: 'messages[assistant]'",
    "instruction": "question: [instruction, input], answer: output, answer_is: stated, rationale: output",
}
"""How the files that people share most are mapped, by a column that only they have."""

_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[^.\[\]]+\])*")
_STEP = re.compile(r"([.\[]?)([^.\[\]]+)\]?")
_INDEX = re.compile(r"-?\d{1,6}")


class Column:
    """One column, and whether a row had it.

    Args:
        path: its name or path.

    Attributes:
        found: whether any row had it, if only with null.
        names: the names found at `depth`, the deepest step of the path reached, in rows that lack that step.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps = [match.groups() for match in _STEP.finditer(path)] if _PATH.fullmatch(path) else [("", path)]
        self.found = False
        self.names: dict[str, None] = {}
        self.depth = 0

    @property
    def heads(self) -> set[str]:
        """The names of the columns that it may be in."""
        return {self.path, self.steps[0][1]}

    def of(self, row: Mapping[str, Any]) -> Any:
        """The column's value in a row; None where the row has none.

        Raises:
            UnusableRowError: the row has several turns of the role that is asked for.
        """
        if self.path in row:
            self.found = True
            return _joined(row[self.path])
        value: Any = row
        for i, (mark, name) in enumerate(self.steps):
            inner = _inner(value, mark, name)
            if inner is _ABSENT:
                self._remember(i, value)
                return None
            value = inner
            if value is None:
                break
        self.found = True
        return _joined(_said(value) if self.steps[-1][0] == "[" else value)

    def reached(self) -> str:
        """The part of the path that rows have."""
        return "".join(f"{mark}{name}{']' * (mark == '[')}" for mark, name in self.steps[: self.depth])

    def _remember(self, depth: int, value: Any) -> None:
        """Remember the existing names where a step of the path is missing."""
        if depth > self.depth:
            self.depth, self.names = depth, {}
        if isinstance(value, list) and value:
            mark, name = self.steps[depth]
            by_role = mark == "[" and not _INDEX.fullmatch(name)
            value = dict.fromkeys(_roles(value)) if by_role else value[0]
        for name in value if isinstance(value, Mapping) and depth == self.depth else ():
            if len(self.names) < MAX_NAMES:
                self.names.setdefault(str(name)[:60])


def require_columns(columns: Mapping[str, Iterable[Column]], source: str) -> None:
    """Raise for columns that no row has, with the existing names and the most similar of them.

    Args:
        columns: by the part of a problem that they are for.
        source: what was read, for messages.

    Raises:
        DataError: there is such a column, and there were rows.
    """
    absent = [(part, column) for part, found in columns.items() for column in found if column.names]
    absent = [(part, column) for part, column in absent if not column.found]
    if not absent:
        return
    part, column = absent[0]
    reached = column.reached()
    wanted, cased = column.steps[column.depth][1], {str(name).casefold(): name for name in column.names}
    same = [cased[wanted.casefold()]] if wanted.casefold() in cased else []
    close = [
        (f"{reached}[{name}]" if column.steps[column.depth][0] == "[" else f"{reached}.{name}") if reached else name
        for name in same or get_close_matches(wanted, column.names, n=1)
    ]
    shape = next((hint for name, hint in SHAPES.items() if name in column.names), None)
    hints = [f"did you mean {close[0]!r}?"] if close else []
    hints += [f"for this kind of file write {{{shape}}}"] if shape and not close else []
    listed = ", ".join(f"{other.path!r} ({name})" for name, other in absent)
    where = f"under {reached!r}" if reached else "there"
    raise DataError(
        f"Expected {source} to have the columns that the mapping names; no row has {listed}. What they hold would be "
        f"missing from every problem; the names {where} are {', '.join(column.names)}. Correct {part!r} in the mapping"
        f"{': ' if hints else '.'}{'; '.join(hints)}"
    )


class _Absent:
    """The type of `_ABSENT`."""


_ABSENT = _Absent()
"""What a step leads to that a value does not have."""


def _inner(value: Any, mark: str, name: str) -> Any:
    """What one step of a path leads to."""
    if isinstance(value, str):
        value = json_or_text(value)
    if isinstance(value, Mapping):
        return value.get(name, _ABSENT)
    if not isinstance(value, list):
        return _ABSENT
    if mark == "[" and _INDEX.fullmatch(name):
        index = int(name)
        return value[index] if -len(value) <= index < len(value) else None
    if mark == "[":
        return _turn(value, name)
    if not value or not all(isinstance(item, Mapping) for item in value):
        return _ABSENT if value else []
    return [item.get(name) for item in value] if any(name in item for item in value) else _ABSENT


def _turn(turns: list[Any], role: str) -> Any:
    """The only turn of a role, if the chat has it."""
    spoken = [turn for turn in turns if isinstance(turn, Mapping)]
    if not any(key in turn for turn in spoken for key in ROLE):
        return _ABSENT
    said = [turn for turn in spoken if role in (turn.get(ROLE[0]), turn.get(ROLE[1]))]
    if len(said) > 1:
        raise UnusableRowError(f"there are several turns of {role!r}; name one by its position, such as [-1]")
    return said[0] if said else _ABSENT


def _roles(turns: list[Any]) -> list[str]:
    roles = [turn.get(key) for turn in turns if isinstance(turn, Mapping) for key in ROLE]
    return [role for role in roles if isinstance(role, str)]


def _said(value: Any) -> Any:
    """The text of a turn, if the path ends at a turn."""
    if not isinstance(value, Mapping) or not any(key in value for key in ROLE):
        return value
    return next((value[key] for key in CONTENT if key in value), None)


def _joined(value: Any) -> Any:
    """The text of a turn whose content is a list of parts that are all text; anything else as it is."""
    if not isinstance(value, list) or not value:
        return value
    texts = [part.get("text") for part in value if isinstance(part, Mapping) and part.get("type") == "text"]
    whole = len(texts) == len(value) and all(isinstance(text, str) for text in texts)
    return "\n".join(map(str, texts)) if whole else value

"""Lines about the progress of a long stage, for a log file or a screen."""

from __future__ import annotations

import time
from collections.abc import Callable

from molsaki.counts import show_number
from molsaki.models.estimates import show_seconds

EVERY = 30.0
"""Seconds between two lines."""


class ProgressLines:
    """Prints the progress of a stage: what is done of how much, the rate, and the time that is left.

    Args:
        print_line: gets a line.
        what: the stage, such as `rationales`.
        unit: what is counted, in the plural.
        every: seconds between two lines; the first one comes as long after the start.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        print_line: Callable[[str], None],
        what: str,
        unit: str,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._print_line = print_line
        self._what = what
        self._unit = unit
        self._every = every
        self._clock = clock
        self._last = clock()
        self._begun: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Print a line, if one is due.

        Args:
            done: how much is done. The rate counts from the first call on, as earlier runs may have done a part.
            total: how much there is.
            detail: goes into the line after what is done.
        """
        now = self._clock()
        if self._begun is None:
            self._begun = (now, done)
        if now - self._last < self._every:
            return
        self._last = now
        seconds, advanced = now - self._begun[0], done - self._begun[1]
        parts = [f"{self._what}: {done} of {total} {self._unit}", *([detail] if detail else [])]
        if advanced > 0 and seconds > 0:
            rate = advanced / seconds
            parts += [f"{show_number(rate, 2)} {self._unit} a second", f"{show_seconds((total - done) / rate)} left"]
        self._print_line(", ".join(parts))

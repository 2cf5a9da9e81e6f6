"""What is shown fits the terminal, and where there is none, a table is as wide as it is; text steers nothing."""

from __future__ import annotations

import re

import pytest
from commands import molsaki

from molsaki.cli.console import FILE_WIDTH, Console, visible
from molsaki.report.facts import Table

LONG = "a method with a long name"
WIDE = Table("differences", ["method", *(f"set {i}" for i in range(12))], [[LONG, *["-26.5 [-31.7, -21.1]"] * 12]])


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **env: str) -> list[str]:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    console = Console()
    console.table(WIDE)
    return capsys.readouterr().out.splitlines()


def test_a_table_in_a_file_is_not_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(capsys, monkeypatch)
    (row,) = [line for line in lines if LONG in line]
    assert row.count("-26.5 [-31.7, -21.1]") == 12
    assert max(map(len, lines)) < FILE_WIDTH, "no wider than it must be"


def test_the_width_that_is_asked_for_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(map(len, shown(capsys, monkeypatch, COLUMNS="100"))) <= 100


def test_a_terminal_has_its_own_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(capsys, monkeypatch, FORCE_COLOR="1")  # which makes a terminal of whatever is written to
    assert max(map(len, lines)) < FILE_WIDTH / 2
    assert not any(LONG in line and line.count("-26.5 [-31.7, -21.1]") == 12 for line in lines)


def test_text_is_shown_as_it_is_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a:b:c is 3:100:5, see :x: [bold]there[/] \x1b[31mred\x1b[0m \x07\x9b2J \x7f"
    honest = "a:b:c is 3:100:5, see :x: [bold]there[/] ␛[31mred␛[0m ␇\ufffd2J ␡"
    console = Console()
    console.say(hostile)
    console.table(Table(hostile, ["method", hostile], [["dss", hostile]]))
    out = capsys.readouterr().out
    assert out.count(honest) == 4
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out)


def test_lines_and_tabs_are_left() -> None:
    assert visible("one\ttwo\r\nthree") == "one\ttwo\nthree"


def test_a_look_shows_the_text_that_was_looked_at() -> None:
    rationale = "The ratio a:b:c is 3:100:5. See :x: \x1b[2Jthere, 4 \x9b31mtimes."
    shown = molsaki("look", "pocket:teacher", "What is the ratio of 3 to 100?", "--rationale", rationale)
    assert shown.code == 0, shown.error
    assert "rationale: The ratio a:b:c is 3:100:5. See :x: ␛[2Jthere, 4 \ufffd31mtimes." in shown.out
    # Once more in the table, where its steps are folded to the width of their column.
    assert shown.out.count(":x:") == 2
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown.out)

"""What is shown fits the terminal, and where there is none, a table is as wide as it is."""

from __future__ import annotations

import pytest

from molsaki.console import FILE_WIDTH, Console
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

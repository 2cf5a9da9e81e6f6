"""Terminal output: the width of tables, and text that cannot control the terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from commands import molsaki

from molsaki.cli.console import FILE_WIDTH, Console
from molsaki.cli.terminal import visible
from molsaki.report.tables import Table

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LONG = "a method with a long name"
WIDE = Table("differences", ["method", *(f"set {i}" for i in range(12))], [[LONG, *["-26.5 [-31.7, -21.1]"] * 12]])


def print_wide_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **env: str) -> list[str]:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    console = Console()
    console.table(WIDE)
    return capsys.readouterr().out.splitlines()


def test_a_table_in_a_file_is_not_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_wide_table(capsys, monkeypatch)
    (row,) = [line for line in lines if LONG in line]
    assert row.count("-26.5 [-31.7, -21.1]") == 12
    assert max(map(len, lines)) < FILE_WIDTH, "no wider than needed"


def test_columns_sets_the_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, print_wide_table(capsys, monkeypatch, COLUMNS="100"))) <= 100


def test_a_terminal_has_its_own_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_wide_table(capsys, monkeypatch, FORCE_COLOR="1")  # rich then treats the output as a terminal
    assert max(map(len, lines)) < FILE_WIDTH / 2
    assert not any(LONG in line and line.count("-26.5 [-31.7, -21.1]") == 12 for line in lines)


def test_text_does_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a:b:c is 3:100:5, see :x: [bold]there[/] \x1b[31mred\x1b[0m \x07\x9b2J \x7f \u202eten\u2069"
    visible_text = "a:b:c is 3:100:5, see :x: [bold]there[/] ␛[31mred␛[0m ␇\ufffd2J ␡ \ufffdten\ufffd"
    console = Console()
    console.detail(hostile)
    console.table(Table(hostile, ["method", hostile], [["dss", hostile]]))
    out = capsys.readouterr().out
    assert out.count(visible_text) == 4
    assert not CONTROLS.search(out)


def test_line_breaks_and_tabs_stay() -> None:
    assert visible("one\ttwo\r\nthree") == "one\ttwo\nthree"


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_bidirectional_controls_are_replaced(code: int) -> None:
    assert unicodedata.bidirectional(chr(code)) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
    assert visible(f"a{chr(code)}b") == "a\ufffdb"
    assert visible("آدا كم 5") == "آدا كم 5", "text from right to left stays"


def test_look_prints_hostile_text_as_text() -> None:
    rationale = "The ratio a:b:c is 3:100:5. See :x: \x1b[2Jthere, 4 \x9b31mtimes."
    shown = molsaki("look", "pocket:teacher", "What is the ratio of 3 to 100?", "--rationale", rationale)
    assert shown.code == 0, shown.error
    assert "rationale: The ratio a:b:c is 3:100:5. See :x: ␛[2Jthere, 4 \ufffd31mtimes." in shown.out
    # Once more in the table, where the steps are folded to the width of their column.
    assert shown.out.count(":x:") == 2
    assert not CONTROLS.search(shown.out)

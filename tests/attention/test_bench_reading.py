"""The benchmark of reading compares like with like, and prints ratios to a plain forward pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import molsaki

from molsaki import bench_reading
from molsaki.bench import Measurement, ModelSize, Shape
from molsaki.errors import InputError

SMALL = ModelSize(layers=2, width=32, heads=4, key_value_heads=2, vocabulary=64)


def test_both_ways_to_read_give_the_same_attention() -> None:
    read = bench_reading.make_reader(Shape(60, 2, 5), SMALL, torch.get_num_threads())
    assert read("plain") is None
    torch.testing.assert_close(read("stepwise"), read("output_attentions"), atol=1e-5, rtol=1e-4)


def test_every_way_is_measured_and_compared_with_the_plain_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"plain": (200, 100), "stepwise": (210, 100), "output_attentions": (400, 100)}
    monkeypatch.setattr(bench_reading, "_peak_in_own_process", lambda _shape, _model, way, _threads: peaks[way])
    result = bench_reading.run_reading_bench([Shape(60, 1, 4)], 2, model=SMALL, threads=torch.get_num_threads())
    assert [m.way for m in result.measurements] == list(bench_reading.WAYS)
    assert all(len(m.seconds) == len(m.cpu_seconds) == 2 for m in result.measurements)
    ratios = result.ratios(result.measurements[1])
    assert ratios["memory_ratio"] == pytest.approx(1.05)
    assert ratios["time_ratio"] > 0
    with pytest.raises(InputError, match="at least one repeat"):
        bench_reading.run_reading_bench([Shape(60, 1, 4)], 0, model=SMALL)
    with pytest.raises(InputError, match="nonsense"):
        bench_reading.run_reading_bench([Shape(60, 1, 4)], 1, ["nonsense"], model=SMALL)


def test_the_peak_is_printed_by_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    size = {"layers": 1, "width": 32, "heads": 4, "key_value_heads": 2, "vocabulary": 64}
    threads = str(torch.get_num_threads())
    bench_reading.main(["60x1:4", "--peak-of", "stepwise", "--threads", threads, "--model", json.dumps(size)])
    peak, rest = json.loads(capsys.readouterr().out)
    assert peak >= rest > 0


def test_the_command_prints_the_table_and_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Measurement("60x1:4", way, [1.0], [1.0], 2**20, 2**19) for way in bench_reading.WAYS]
    asked: list[Shape] = []

    def measured(
        shapes: list[Shape], repeats: int, ways: tuple[str, ...], progress: Callable[[str], None]
    ) -> bench_reading.ReadingResult:
        asked.extend(shapes)
        assert ways == tuple(bench_reading.WAYS)
        progress("one turn")
        return bench_reading.ReadingResult({"cpu": "any"}, ModelSize(), repeats, rows)

    monkeypatch.setattr(bench_reading, "run_reading_bench", measured)
    shown = molsaki("bench", "--reading", "--repeats", "1", "--out", tmp_path / "bench.json")
    assert (shown.code, shown.error) == (0, "one turn\n")
    assert asked == [Shape(512, 4, 24), Shape(2048, 1, 40)]
    assert "| 60x1:4 | + stepwise attention | 1.000 | 1.00 |" in shown.out
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["measurements"][0]["way"] == "plain"

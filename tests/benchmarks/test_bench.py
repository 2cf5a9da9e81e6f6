"""The benchmarks of training and of reading run, compare like with like, and report what they measured."""

from __future__ import annotations

import json
import re

import pytest
import torch
from commands import molsaki

from molsaki.errors import InputError
from molsaki_benchmarks import device
from molsaki_benchmarks import runner as bench
from molsaki_benchmarks.models import Conditions, ModelSize, Shape
from molsaki_benchmarks.reading import READING
from molsaki_benchmarks.training import TRAINING

TINY = ModelSize(layers=2, width=32, heads=4, key_value_heads=2, vocabulary=61)


ONE_THREAD = Conditions(threads=1)


def run(peak, seconds=1.0):
    return bench.Run(peak_bytes=peak, rest_bytes=100, seconds=seconds, cpu_seconds=seconds)


@pytest.mark.parametrize("benchmark", [TRAINING, READING], ids=["training", "reading"])
def test_every_way_takes_its_turn_and_is_compared_with_plain(benchmark, monkeypatch):
    monkeypatch.setattr(bench, "_run_in_own_process", lambda *asked: run(200 if asked[4] == "plain" else 210))
    lines = []
    result = bench.run_bench(
        benchmark, [Shape.parse("50x2:3")], 2, model=TINY, conditions=ONE_THREAD, progress=lines.append
    )
    assert [m.way for m in result.measurements] == benchmark.ways_on("cpu")
    assert all(len(m.seconds) == len(m.cpu_seconds) == 2 for m in result.measurements)
    assert lines[0] == "50x2:3: time"
    saved = json.loads(json.dumps(result.to_dict()))
    assert saved["measurements"][0]["time_ratio"] == 1
    assert saved["measurements"][1]["memory_ratio"] == pytest.approx(1.05)
    assert saved["measured"] == benchmark.once
    assert {"date", "processor", "torch", "transformers", "molsaki"} <= saved["machine"].keys()
    table = result.to_markdown().splitlines()
    assert len([line for line in table if line.startswith("| 50x2:3")]) == len(result.measurements)
    assert all(line.count("|") == table[0].count("|") for line in table if line.startswith("|"))


@pytest.mark.parametrize("benchmark", [TRAINING, READING], ids=["training", "reading"])
def test_the_peak_is_measured_by_a_process_that_does_one_thing(benchmark, capsys):
    model = '{"layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "vocabulary": 61}'
    conditions = '{"threads": 1, "precision": "bf16"}'
    arguments = ["50x1:3", "--peak-of", "stepwise", "--model", model, "--conditions", conditions]
    bench.print_peak(benchmark, arguments)
    one = bench.Run(**json.loads(capsys.readouterr().out))
    assert one.peak_bytes >= one.rest_bytes > 0
    assert one.seconds > 0


def test_a_long_text_is_timed_in_processes_of_its_own_that_take_turns(monkeypatch):
    asked, figures = [], iter([1.0, 2.0, 3.0, 6.0])
    monkeypatch.setattr(bench, "LONG", 40)
    monkeypatch.setattr(bench, "_run_in_own_process", lambda *given: asked.append(given[4]) or run(200, next(figures)))
    result = bench.run_bench(TRAINING, [Shape(50, 1, 3)], 2, ["stepwise"], TINY, ONE_THREAD)
    assert asked == ["plain", "stepwise"] * 2
    assert [m.seconds for m in result.measurements] == [[1.0, 3.0], [2.0, 6.0]]
    assert result.ratios(result.measurements[1])["time_ratio"] == 2


@pytest.mark.parametrize("benchmark", [TRAINING, READING], ids=["training", "reading"])
def test_that_process_is_started_by_the_name_of_the_benchmarks_module(benchmark):
    result = bench.run_bench(benchmark, [Shape(50, 1, 3)], 1, [], model=TINY, conditions=ONE_THREAD)
    assert [m.way for m in result.measurements] == ["plain"]
    assert result.measurements[0].peak_bytes >= result.measurements[0].rest_bytes > 2**20


def test_a_way_on_flash_attention_is_compared_with_the_plain_way_on_it(monkeypatch):
    asked = []

    def measured(benchmark, shape, model, conditions, ways, *_):
        asked.extend(ways)
        seconds = {"plain": 1.0, "plain-flash": 2.0, "stepwise-flash": 3.0}
        return [bench.Measurement(str(shape), way, [seconds[way]], [1.0], 1, 0) for way in ways], []

    monkeypatch.setattr(bench, "measure_on_device", measured)
    monkeypatch.setattr(bench, "require_device", lambda _: None)
    monkeypatch.setattr(bench, "describe_machine", lambda *_: {})
    result = bench.run_bench(TRAINING, [Shape(50, 1, 3)], 1, ["stepwise-flash"], TINY, Conditions(device="cuda"))
    assert asked == ["plain", "plain-flash", "stepwise-flash"]
    assert [result.ratios(m)["time_ratio"] for m in result.measurements] == [1, 1, 1.5]


@pytest.mark.parametrize("text", ["", "50x2", "50:3", "axb:c", "50x0:3", "50x2:0", "41x1:3"])
def test_impossible_shapes_are_refused(text):
    with pytest.raises(InputError, match=re.escape(repr(text))):
        Shape.parse(text)


def test_unknown_ways_and_no_repeats_are_refused():
    with pytest.raises(InputError, match="fastest"):
        bench.run_bench(TRAINING, [Shape(50, 1, 3)], ways=["fastest"])
    with pytest.raises(InputError, match="at least one repeat"):
        bench.run_bench(READING, [Shape(50, 1, 3)], 0)


def test_attention_matrices_that_do_not_fit_are_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr(bench, "_run_in_own_process", lambda *_: run(200))
    monkeypatch.setattr(bench, "available_bytes", lambda: 1000)
    result = bench.run_bench(TRAINING, [Shape.parse("50x2:3")], 1, model=TINY, conditions=ONE_THREAD)
    assert [m.way for m in result.measurements] == ["plain", "stepwise", "second-pass"]
    assert result.to_dict()["left_out"] == ["50x2:3 by output_attentions, which would hold about 0 GiB"]
    assert "Not run" in result.to_markdown()
    assert TRAINING.full_attention_bytes(Shape.parse("4096x1:60"), ModelSize()) == 2 * 8 * 8 * 4096**2 * 4
    assert READING.full_attention_bytes(Shape.parse("4096x1:60"), ModelSize()) == 8 * 8 * 4096**2 * 4


def test_both_ways_to_read_give_the_same_attention():
    read = READING.make(Shape(60, 2, 5), TINY, ONE_THREAD)
    assert read("plain") is None
    torch.testing.assert_close(read("stepwise"), read("output_attentions"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "benchmark"), [((), TRAINING), (("--reading",), READING)], ids=["training", "reading"]
)
def test_the_command_prints_the_table_and_writes_its_figures(options, benchmark, tmp_path, monkeypatch):
    rows = [bench.Measurement("60x1:4", way, [1.0], [1.0], 2**20, 2**19) for way in benchmark.ways]
    asked = []

    def measured(given, shapes, repeats, ways, model, conditions, progress, save):
        asked.extend(shapes)
        assert (model.layers, model.family, conditions.precision, conditions.checkpointing) == (
            3,
            "qwen2",
            "bf16",
            True,
        )
        assert (given, ways) == (benchmark, None)
        progress("one turn")
        result = bench.BenchResult(benchmark, {"cpu": "any"}, model, conditions, repeats, rows)
        save(result)
        return result

    monkeypatch.setattr(bench, "run_bench", measured)
    options = (*options, "--precision", "bf16", "--model", "qwen2-1.5b", "--layers", "3", "--checkpointing")
    shown = molsaki("bench", *options, "--repeats", "1", "--out", tmp_path / "bench.json")
    assert (shown.code, shown.error) == (0, "one turn\n")
    assert [str(shape) for shape in asked] == list(benchmark.shapes)
    assert f"| 60x1:4 | {benchmark.ways['stepwise']} | 1.000 | 1.00 | 1.00 |" in shown.out
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["measurements"][0]["way"] == "plain"
    asked.clear()
    molsaki("bench", *options, "60x1:4")
    assert asked == [Shape(60, 1, 4)]


@pytest.mark.parametrize("benchmark", [TRAINING, READING], ids=["training", "reading"])
@pytest.mark.parametrize("precision", ["float32", "bf16", "bf16-weights"])
def test_what_runs_on_a_gpu_runs(benchmark, precision):
    """Here on the CPU, with checkpointing; the device's memory is then 0."""
    conditions = Conditions(1, precision, "cpu", checkpointing=True)
    ways = benchmark.ways_on("cpu")
    done, left_out = device.measure_on_device(benchmark, Shape(90, 2, 5), TINY, conditions, ways, 2, lambda _: None)
    assert ([m.way for m in done], left_out) == (ways, [])
    assert all(len(m.seconds) == 2 and m.peak_bytes == 0 for m in done)


def too_long(limit):
    def make(shape, model, conditions):
        def do(way):
            if way != "plain" and shape.tokens > limit:
                raise torch.OutOfMemoryError

        return do

    return bench.Benchmark("none", {"plain": "p", "stepwise": "s"}, (), "", 1, make)


def test_what_does_not_fit_on_a_gpu_is_left_out_and_the_rest_is_measured():
    done, left_out = device.measure_on_device(
        too_long(50), Shape(100, 1, 3), TINY, ONE_THREAD, ["plain", "stepwise"], 1, lambda _: None
    )
    assert ([m.way for m in done], left_out) == (["plain"], ["stepwise"])


@pytest.mark.parametrize(
    ("fits", "limit", "tokens", "next_fits"), [(50, 900, None, False), (250, 900, 200, False), (9999, 900, 800, None)]
)
def test_the_longest_text_is_found_by_doubling(fits, limit, tokens, next_fits):
    nothing = ONE_THREAD, "stepwise", lambda _: None
    *_, found = device.find_longest(too_long(fits), Shape(100, 1, 3), limit, TINY, *nothing)
    assert (found.tokens, found.next_fits) == (tokens, next_fits)


def test_a_killed_search_for_the_longest_text_keeps_what_fitted(monkeypatch):
    monkeypatch.setattr(bench, "require_device", lambda _: None)
    monkeypatch.setattr(bench, "find_longest", lambda *given: device.find_longest(*given[:4], ONE_THREAD, *given[5:]))
    monkeypatch.setattr(bench, "describe_machine", lambda *_: {})
    saved = []
    options = TINY, Conditions(1, device="cuda"), lambda _: None, saved.append
    found = bench.run_longest(too_long(250), Shape(100, 1, 3), 900, ["stepwise"], *options)
    assert [figures["longest"][0]["tokens"] for figures in saved] == [100, 200, 200]
    assert str(found[0]) == "stepwise: 200 tokens (0.0 GiB, 0.0 s); twice as many do not fit"


def test_a_gpu_that_is_not_there_and_the_longest_text_of_a_cpu_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="PyTorch finds none"):
        bench.run_bench(TRAINING, [Shape(50, 1, 3)], conditions=Conditions(device="cuda"))
    nothing = (["stepwise"], TINY, ONE_THREAD, lambda _: None, lambda _: None)
    with pytest.raises(InputError, match="Expected a GPU"):
        bench.run_longest(TRAINING, Shape(50, 1, 3), 100, *nothing)
    with pytest.raises(InputError, match="flex"):
        bench.run_bench(TRAINING, [Shape(50, 1, 3)], ways=["flex"])


def test_a_killed_run_keeps_the_shapes_that_it_measured(monkeypatch):
    monkeypatch.setattr(bench, "_run_in_own_process", lambda *_: run(200))
    saved = []
    shapes = [Shape(50, 1, 3), Shape(60, 1, 3)]
    bench.run_bench(READING, shapes, 1, [], TINY, ONE_THREAD, save=lambda result: saved.append(result.to_dict()))
    assert [len(figures["measurements"]) for figures in saved] == [1, 2]

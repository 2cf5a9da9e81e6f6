"""The benchmark runs, and reports what it measured."""

from __future__ import annotations

import json

import pytest

from molsaki import bench
from molsaki.errors import InputError

TINY = bench.ModelSize(layers=2, width=32, heads=4, key_value_heads=2, vocabulary=61)


def test_every_way_takes_its_turn_and_is_compared_with_plain(monkeypatch):
    monkeypatch.setattr(bench, "_peak_in_own_process", lambda *_: (200, 100))
    told = []
    result = bench.run_bench([bench.Shape.parse("50x2:3")], 2, model=TINY, threads=1, progress=told.append)
    assert [m.way for m in result.measurements] == list(bench.WAYS)
    assert all(len(m.seconds) == 2 for m in result.measurements)
    assert told[0] == "50x2:3: time"
    saved = json.loads(json.dumps(result.to_dict()))
    assert saved["measurements"][0]["time_ratio"] == 1
    assert {"date", "processor", "torch", "transformers", "molsaki"} <= saved["machine"].keys()
    table = result.to_markdown().splitlines()
    assert len([line for line in table if line.startswith("| 50x2:3")]) == len(bench.WAYS)
    assert all(line.count("|") == table[0].count("|") for line in table if line.startswith("|"))


def test_the_peak_is_measured_by_a_process_that_does_one_thing(capsys):
    model = '{"layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "vocabulary": 61}'
    bench.main(["--lengths", "50x1:3", "--threads", "1", "--peak-of", "stepwise", "--model", model])
    peak, rest = json.loads(capsys.readouterr().out)
    assert peak >= rest > 0


@pytest.mark.parametrize("text", ["", "50x2", "50:3", "axb:c", "50x0:3", "50x2:0", "41x1:3"])
def test_impossible_shapes_are_refused(text):
    with pytest.raises(InputError, match=r"TxB:K|room"):
        bench.Shape.parse(text)


def test_unknown_ways_are_refused():
    with pytest.raises(InputError, match="ways"):
        bench.run_bench([bench.Shape(50, 1, 3)], ways=["fastest"])


def test_attention_matrices_that_do_not_fit_are_left_out_and_told(monkeypatch):
    monkeypatch.setattr(bench, "_peak_in_own_process", lambda *_: (200, 100))
    monkeypatch.setattr(bench, "available_bytes", lambda: 1000)
    result = bench.run_bench([bench.Shape.parse("50x2:3")], 1, model=TINY, threads=1)
    assert [m.way for m in result.measurements] == ["plain", "stepwise", "second-pass"]
    assert result.to_dict()["left_out"] == ["50x2:3 by output_attentions, which would hold about 0 GiB"]
    assert "for want of memory: 50x2:3" in result.to_markdown()
    assert bench.whole_attention_bytes(bench.Shape.parse("4096x1:60"), bench.ModelSize()) == 2 * 8 * 8 * 4096**2 * 4

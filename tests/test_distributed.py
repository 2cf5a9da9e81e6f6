"""Two processes that share a job give the result of one process. Only process 0 locks, writes and prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import SMALL, recipe, run
from launching import launch

from molsaki import distributed as processes
from molsaki.errors import InputError
from molsaki.store.run_directory import RunDirectory
from molsaki.store.signal_reader import SignalStore

TWO = {
    **SMALL,
    "methods": ["molsaki", {"name": "molsaki", "label": "words", "rows": "words"}, "logits"],
    "baseline": None,
    "attention": {"batch_tokens": 150},
    "training": {**SMALL["training"], "steps": 3, "batch_size": 8},
}


def launched(*arguments: str | Path) -> list[tuple[int, str]]:
    """The command line in two processes."""
    return launch(["-m", "molsaki.cli", *arguments])


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same small run by one process, and by two with half the batch on each."""
    folder = tmp_path_factory.mktemp("processes")
    path = recipe(folder, base=TWO)
    shown = run(path, folder / "one")
    assert shown.code == 0, shown.error
    with RunDirectory(folder / "one").lock():
        pass
    ended = launched("run", path, "--set", "training.batch_size=4", "--out", folder / "two")
    assert [code for code, _ in ended] == [0, 0], "\n".join(output for _, output in ended)
    assert "molsaki, seed 1: trained in" in ended[0][1]
    assert "run directory" not in ended[1][1], "only process 0 prints"
    return folder / "one", folder / "two"


def test_two_processes_write_the_stores_of_one_row_for_row(one_and_two: tuple[Path, Path]) -> None:
    for name in ("steps", "words", "next-tokens"):
        one, two = (SignalStore(folder / "attention" / name) for folder in one_and_two)
        assert one.ids() == two.ids()
        assert one.fingerprint == two.fingerprint
        for row_id, text in one.text_hashes().items():
            mine, theirs = one.get(row_id, text), two.get(row_id, text)
            assert all(torch.equal(tensor, theirs[part]) for part, tensor in mine.items())
    first, second = (json.loads((folder / "stages/attend.json").read_text()) for folder in one_and_two)
    assert first == second


def test_two_processes_train_the_student_of_one_and_test_it(one_and_two: tuple[Path, Path]) -> None:
    one, two = (safetensors.torch.load_file(folder / "students/molsaki-1/model.safetensors") for folder in one_and_two)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=1e-3, msg=name)
    for folder in one_and_two:
        assert "3 steps of 8 examples" in (folder / "students/molsaki-1/README.md").read_text(encoding="utf-8")
    results = [json.loads((folder / "results.json").read_text()) for folder in one_and_two]
    assert [{row["split"] for row in rows} for rows in results] == [{"in-domain", "chains"}] * 2
    left = [path.name for path in one_and_two[1].rglob("*") if ".training" in path.name or "unfinished" in path.name]
    assert not left


def test_a_locked_run_is_refused_in_all_processes(one_and_two: tuple[Path, Path]) -> None:
    folder = one_and_two[1]
    with RunDirectory(folder).lock():
        ended = launched("attend", folder.parent / "recipe.yaml", "--set", "training.batch_size=4", "--out", folder)
    assert [code for code, _ in ended] == [2, 2]
    assert str(folder) in ended[0][1]
    assert "Traceback" not in ended[0][1] + ended[1][1]


def test_a_single_process_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    processes.init_group()
    assert processes.is_main()
    assert processes.broadcast_json({"a": 1}) == {"a": 1}
    assert processes.on_main_process(lambda: 7) == 7
    (numbers,) = processes.gather_numbers(torch.arange(3), [3])
    assert numbers.tolist() == [0, 1, 2]
    processes.wait()
    processes.close_group()


def test_a_world_size_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match=r"WORLD_SIZE.*two"):
        processes.process_count()

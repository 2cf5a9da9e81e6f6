"""A run directory belongs to one recipe and one process, and loses nothing unasked."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import JSON_VALUES, fail_writes, names_in
from hypothesis import example, given, settings
from hypothesis import strategies as st

from molsaki.errors import ArtefactError, DataError, StageError
from molsaki.store.locks import LOCK_NAME, lock_file
from molsaki.store.run_directory import RunDirectory
from molsaki.store.whole_files import LEFTOVER_PREFIX

RECIPE: dict[str, Any] = {
    "name": "pocket",
    "train": {"learning_rate": 5e-5, "seeds": [0, 1, 2], "template": "predict: {question}\n{label}"},
    "methods": [{"name": "dss"}, {"name": "molsaki", "beta": 1.0}],
}
OTHER = {**RECIPE, "train": {**RECIPE["train"], "learning_rate": 1e-4}, "extra": True}

HOLDER = """
import sys, time
from pathlib import Path
from molsaki.store.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_made_and_opened_again(tmp_path: Path) -> None:
    made = RunDirectory.open_or_create(tmp_path / "runs" / "a", RECIPE)
    before = snapshot(made.folder)
    again = RunDirectory.open_or_create(tmp_path / "runs" / "a", json.loads(json.dumps(RECIPE)))
    assert snapshot(made.folder) == before
    assert again.recipe == RECIPE == yaml.safe_load((made.folder / "recipe.yaml").read_text())
    assert again.manifest == made.manifest
    assert {"python", "torch"} <= again.manifest["versions"].keys()
    assert RunDirectory(made.folder).recipe == RECIPE


@settings(deadline=None, max_examples=25)
@example(recipe={"\x85": "a\x85 b\u2028", "λ": "−1 → ½"})
@given(recipe=st.dictionaries(st.text(min_size=1), JSON_VALUES, max_size=4))
def test_any_recipe_reads_back(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run")
    made = RunDirectory.open_or_create(path, recipe)
    assert RunDirectory.open_or_create(path, recipe).recipe == made.recipe == recipe


def test_a_recipe_that_yaml_would_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molsaki.store.run_directory.dump_yaml", lambda *_, **__: "name: other")
    with pytest.raises(DataError, match="reads back from YAML"):
        RunDirectory.open_or_create(tmp_path, RECIPE)
    assert names_in(tmp_path) == []


def test_another_recipe_is_refused_with_every_key_that_differs(tmp_path: Path) -> None:
    RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    (tmp_path / "a" / "data").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(ArtefactError) as caught:
        RunDirectory.open_or_create(tmp_path / "a", OTHER)
    message = str(caught.value)
    assert "2 keys differ" in message
    assert "train.learning_rate: found 5e-05, requested 0.0001" in message
    assert "extra: found absent, requested true" in message
    assert "--overwrite" in message
    assert "beta" not in message
    assert snapshot(tmp_path) == before


def test_a_mistake_that_was_found_before_anything_was_made_can_be_mended(tmp_path: Path) -> None:
    RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    process = hold(tmp_path / "a")
    try:
        with pytest.raises(StageError, match=str(process.pid)):
            RunDirectory.open_or_create(tmp_path / "a", OTHER)
    finally:
        process.kill()
        process.communicate()
    mended = RunDirectory.open_or_create(tmp_path / "a", OTHER, facts={"more": 1})
    assert mended.recipe == OTHER == RunDirectory(tmp_path / "a").recipe
    assert mended.manifest["more"] == 1
    with mended.lock():
        pass


def test_a_run_whose_recipe_was_replaced_meanwhile_is_not_worked_in(tmp_path: Path) -> None:
    first = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    RunDirectory.open_or_create(tmp_path / "a", OTHER)
    with pytest.raises(StageError, match="another process"), first.lock():
        pass


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["thesis.tex", "recipe.yaml", "manifest.json", LOCK_NAME + "s", "stages/generate.json"]
)
def test_a_directory_of_somebody_else_is_never_touched(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ArtefactError, match="Expected"):
        RunDirectory.open_or_create(tmp_path, RECIPE, overwrite=overwrite)
    assert snapshot(tmp_path) == {name: b'{"mine": 1}'}


def test_paths_that_cannot_be_a_directory_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="got a file"):
        RunDirectory.open_or_create(tmp_path / "file", RECIPE)
    for path in (tmp_path / "file" / "below", tmp_path / "nul\0", tmp_path / ("n" * 300)):
        with pytest.raises(StageError, match="Expected to write"):
            RunDirectory.open_or_create(path, RECIPE)
    with pytest.raises(ArtefactError, match="a run directory"):
        RunDirectory(tmp_path / "none")
    assert names_in(tmp_path) == ["file"]


def test_overwriting_when_asked_starts_over(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    run.finish_stage("generate", {"rows": 1})
    run.path("rationales.jsonl").write_text("{}\n")
    run.path("link").symlink_to(outside)
    again = RunDirectory.open_or_create(run.folder, OTHER, overwrite=True)
    assert again.recipe == OTHER
    assert names_in(run.folder) == sorted([LOCK_NAME, "manifest.json", "recipe.yaml"])
    assert names_in(outside) == ["kept"]


def test_an_interrupted_overwrite_is_not_taken_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    run.finish_stage("generate", {"rows": 1})

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", fail)
        with pytest.raises(StageError, match="deleted in part only"):
            RunDirectory.open_or_create(run.folder, RECIPE, overwrite=True)
    with pytest.raises(ArtefactError, match="making or deletion was interrupted"):
        RunDirectory.open_or_create(run.folder, RECIPE)
    assert RunDirectory.open_or_create(run.folder, RECIPE, overwrite=True).stage_done("generate") is None


def test_making_that_was_interrupted_is_finished_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = []
    for room in range(0, 2000, 100):
        path = tmp_path / str(room)
        with monkeypatch.context() as patch:
            fail_writes(patch, after=room)
            try:
                RunDirectory.open_or_create(path, RECIPE)
            except StageError as error:
                errors.append(str(error))
        assert RunDirectory.open_or_create(path, RECIPE).recipe == RECIPE
        assert not [name for name in names_in(path) if name.startswith(LEFTOVER_PREFIX)]
    assert all("space" in error for error in errors)
    assert any("manifest.json" in error for error in errors)
    assert any("recipe.yaml" in error for error in errors)


def test_a_recipe_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    path = run.path("recipe.yaml")
    bomb = "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]\n" for i in range(99))
    changed = path.read_text().replace("5.0e-05", "1.0")
    for text in (changed, "[1]", "{", "!!python/object:os.system {}", bomb):
        path.write_text(text)
        with pytest.raises(ArtefactError, match=r"resolved recipe .* at .*recipe\.yaml"):
            RunDirectory.open_or_create(run.folder, RECIPE)


def test_a_cut_manifest_is_named(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    run.path("manifest.json").write_text('{"kind": "mols')
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"manifest of a run at .*manifest\.json .* cut"):
            RunDirectory.open_or_create(run.folder, RECIPE, overwrite=overwrite)


def test_stages_are_done_once_they_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    assert run.stage_done("train-dss-0") is None
    with monkeypatch.context() as patch:
        fail_writes(patch, after=3)
        with pytest.raises(StageError):
            run.finish_stage("train-dss-0", {"rows": 5})
    assert run.stage_done("train-dss-0") is None
    run.finish_stage("train-dss-0", {"rows": 5})
    assert run.stage_done("train-dss-0") == {"rows": 5}
    run.path("stages", "train-dss-0.json").write_text("[]")
    with pytest.raises(ArtefactError, match="manifest of a stage"):
        run.stage_done("train-dss-0")
    for stage in ("", "..", "../x", "a/b", "a\n", ".hidden", "x" * 101):
        with pytest.raises(ArtefactError, match="stage's name"):
            run.finish_stage(stage, {})


def test_paths_stay_inside(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    assert run.path("students", "dss-0/model.safetensors") == run.folder / "students/dss-0/model.safetensors"
    for part in ("", "..", "../b", "/etc/passwd", "a//b", "a/../../b", "a\0", "a\n", "a\\b", "é" * 200, "\ud800"):
        with pytest.raises(ArtefactError, match="names inside the run directory"):
            run.path("students", part)


def test_a_second_process_is_refused_by_the_first_ones_number(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    holder = hold(run.folder)
    try:
        with pytest.raises(StageError, match=f"process {holder.pid} on "), run.lock():
            pytest.fail("two processes hold one run")
        before = snapshot(run.folder)
        with pytest.raises(StageError, match=f"process {holder.pid} on "):
            RunDirectory.open_or_create(run.folder, OTHER, overwrite=True)
        assert snapshot(run.folder) == before
        assert RunDirectory.open_or_create(run.folder, RECIPE).recipe == RECIPE, "reading needs no lock"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with run.lock():
        pass


def test_the_lock_is_free_after_errors_and_refuses_itself(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    leftover = run.folder / f"{LEFTOVER_PREFIX}1"
    leftover.write_text("cut")

    def work() -> None:
        with run.lock():
            assert not leftover.exists()
            with pytest.raises(StageError, match="this same process"), run.lock():
                pytest.fail("held twice")
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            work()


def test_a_full_disk_does_not_keep_the_lock_from_holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    fail_writes(monkeypatch)
    with run.lock(), pytest.raises(StageError, match="its id is not known"), run.lock():
        pytest.fail("held twice")


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    run = RunDirectory.open_or_create(tmp_path / "a", RECIPE)
    (tmp_path / "precious").write_text("x")
    run.path(LOCK_NAME).unlink()
    run.path(LOCK_NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(StageError, match="Expected to write"), run.lock():
        pytest.fail("followed the link")
    assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EBADF])
def test_a_file_system_without_locks_is_said_and_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    assert lock_file(0, tmp_path / "file", wait=False)
    assert str(tmp_path / "file") in caplog.text

"""Students that together need more memory than there is do not train at the same time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commands import molsaki, recipe, run

from molsaki.data.pocket import STUDENT
from molsaki.models.memory import available_bytes, peak_bytes
from molsaki.stages import fit, students
from molsaki.stages.students import Job, JobResult
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import write_json


def test_students_that_do_not_fit_together_train_one_by_one() -> None:
    cores = os.cpu_count() or 1
    assert fit.workers_that_fit(11_800_000_000, 13_000_000_000) == 1
    assert fit.workers_that_fit(20_000_000_000, 13_000_000_000) == 1, "one may try"
    assert fit.workers_that_fit(1_000_000, 13_000_000_000) == cores


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="the system does not say how much memory is free")
def test_free_memory_is_known() -> None:
    free = available_bytes()
    assert free is not None
    assert 0 < free < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_choice_is_by_a_measurement_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, "methods=[label-only, dss]", "rationales.keep=all", "data.train.limit=2")
    assert run(path, tmp_path / "run", command="generate").code == 0
    workspace = Workspace.open(tmp_path / "run")
    monkeypatch.setattr(fit, "available_bytes", lambda: 10_000_000_000)
    _, sentence = fit.choose_workers([workspace])
    assert "estimated" in sentence
    write_json(workspace.student("dss", 1) / "metrics.json", {"peak_memory_bytes": 6_000_000_000})
    workers, sentence = fit.choose_workers([workspace])
    assert workers == 1
    assert "6 GB of memory (measured)" in sentence
    heard: list[str] = []
    given: list[int | None] = []

    def run_in_workers(_: object, jobs: list[Job], workers: int | None, *__: object) -> list[JobResult]:
        given.append(workers)
        return []

    monkeypatch.setattr(students, "run_in_workers", run_in_workers)
    monkeypatch.setattr(students, "visible_gpus", list)
    jobs = [Job(tmp_path / "run", label, 1) for label in ("label-only", "dss")]
    students.run_jobs(jobs, print_line=heard.append)
    assert (given, heard) == ([1], [sentence])
    students.run_jobs(jobs, workers=2, print_line=heard.append)
    assert (given, heard) == ([1, 2], [sentence]), "the user's number is used"


def test_the_estimate_is_of_a_seeds_own_base(tmp_path: Path) -> None:
    for seed in (3, 4):
        shutil.copytree(STUDENT, tmp_path / f"base-{seed}")
    name = f"student.name={tmp_path}/base-{{seed}}"
    path = recipe(tmp_path, name, "seeds=[3, 4]", "methods=[label-only]", "baseline=null", "rationales.keep=all")
    assert run(path, tmp_path / "run", "--set", "data.train.limit=2", command="generate").code == 0
    assert "estimated" in fit.choose_workers([Workspace.open(tmp_path / "run")])[1]


def test_doctor_multiplies_memory_by_the_number_of_students_at_a_time(tmp_path: Path) -> None:
    shown = molsaki("doctor", recipe(tmp_path))
    assert "at a time: each takes about" in shown.text
    assert "; together " in shown.text
    assert peak_bytes() > fit.PROCESS_BYTES / 10

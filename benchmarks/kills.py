"""Runs that are killed at random moments and started again: does anything get lost?

    python benchmarks/kills.py

runs a small recipe of the pocket models once without a kill. Then it starts the same recipe repeatedly, sends SIGKILL
at a random moment, and continues in the same run directory: in every second run once in each stage, since some are
short, and in the others at any moment. When a run is finished, its students, predictions and results are compared with
those of the undisturbed run, byte by byte, and the next run begins. It ends after enough kills, and prints in which
stage they came.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from molsaki.cli import app
from molsaki.training import trainer  # noqa: F401 - a fork then need not import what takes seconds

RECIPE: dict[str, Any] = {
    "name": "kills",
    "seeds": [1, 2],
    "data": {
        "task": "pocket-math",
        "train": {"source": "pocket-math", "split": "train", "limit": 24},
        "tests": {"in-domain": {"source": "pocket-math", "split": "test", "limit": 16}},
    },
    "teacher": {"writer": {"name": "pocket:teacher"}},
    "rationales": {"max_new_tokens": 128, "batch_size": 8},
    "student": {"name": "pocket:student"},
    "methods": ["dss", "molsaki"],
    "baseline": "dss",
    "training": {"steps": 24, "batch_size": 4, "learning_rate": 1e-3, "save_every": 6, "log_every": 6},
    "evaluation": {"max_new_tokens": 16, "teacher_rows": 8},
}
STUDENTS = len(RECIPE["methods"]) * len(RECIPE["seeds"])
COMPARED = ("students", "predictions", "results.json", "scores.json", "references.json", "rationales.jsonl")
MAX_KILLS = 8
"""Kills at any moment of one run, so that others follow."""
MEASURED = "metrics.json", "README.md"
"""Files of a student that have times and memory in them, or names them."""


def start(recipe: Path, run: Path) -> int:
    """Fork a process that runs the recipe. Returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    log = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["molsaki", "run", str(recipe), "--out", str(run), "--workers", "1"]
    try:
        app.main()
    except SystemExit as exit_:
        os._exit(int(exit_.code or 0))
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def content(run: Path) -> dict[str, bytes]:
    """What must not depend on kills."""
    files = [path for name in COMPARED for path in ((run / name).rglob("*") if (run / name).is_dir() else [run / name])]
    return {
        str(path.relative_to(run)): _by_value(path)
        for path in files
        if path.is_file() and path.name not in MEASURED and not path.name.startswith(".")
    }


def _by_value(path: Path) -> bytes:
    """The bytes of a file; of a table of results, its values, since the order of keys means nothing."""
    if path.name != "results.json":
        return path.read_bytes()
    return json.dumps(json.loads(path.read_bytes()), sort_keys=True).encode()


def stages_done(run: Path) -> dict[str, bool]:
    """For every stage, whether it has nothing left to do. A student is trained and tested before the next one."""
    trained, tested = (len(list(run.glob(made))) for made in ("students/[dm]*", "predictions/[dm]*/*.jsonl"))
    return {
        "data": (run / "stages/data.json").is_file(),
        "generate": (run / "stages/generate.json").is_file(),
        "attend": (run / "stages/attend.json").is_file(),
        "training of a student": trained > tested or tested == STUDENTS,
        "test of a student": tested == STUDENTS,
        "references": (run / "references.json").is_file(),
        "results": (run / "scores.json").is_file(),
        "report": (run / "report.html").is_file(),
    }


def stage(run: Path) -> str:
    """The stage that a run is in."""
    return next((name for name, done in stages_done(run).items() if not done), "after the report")


def lives(child: int, run: Path, until: Callable[[], bool]) -> bool:
    """Wait until something is so. False where the process ended before.

    Raises:
        RuntimeError: it ended with an error.
    """
    while not until():
        time.sleep(0.005)
        ended, status = os.waitpid(child, os.WNOHANG)
        if status:
            raise RuntimeError(run.with_suffix(".log").read_text(encoding="utf-8"))
        if ended:
            return False
    return True


def finish(recipe: Path, run: Path, moments: Iterator[tuple[str, float]]) -> Iterator[str]:
    """Run a recipe to its end, with kills.

    Args:
        recipe: the recipe.
        run: the run directory.
        moments: when to kill it: a stage that has to begin, and seconds after that.

    Yields:
        The stage that each kill came in.
    """
    order = [*stages_done(run), "after the report"]
    for after, seconds in moments:
        child = start(recipe, run)
        if lives(child, run, lambda after=after: order.index(stage(run)) >= order.index(after)):
            end = time.monotonic() + seconds
            if lives(child, run, lambda end=end: time.monotonic() > end):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                yield stage(run)
                continue
        return
    lives(start(recipe, run), run, lambda: False)


def main() -> None:
    """Kill, go on, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="number of kills")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chance, kills, runs, same = random.Random(given.seed), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        begun = time.monotonic()
        undisturbed = folder / "undisturbed"
        lives(start(recipe, undisturbed), undisturbed, lambda: False)
        seconds, expected = time.monotonic() - begun, content(undisturbed)
        assert stage(undisturbed) == "after the report"
        while kills.total() < given.kills:
            runs += 1
            run = folder / f"run-{runs}"
            in_stages = ((name, chance.uniform(0, 1)) for name in stages_done(run))
            anywhere = (("data", chance.uniform(0, seconds)) for _ in range(MAX_KILLS))
            kills.update(finish(recipe, run, in_stages if runs % 2 else anywhere))
            found = content(run)
            differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            same += not differing
            print(f"{run.name}: {kills.total()} kills so far; differing files: {', '.join(differing) or 'none'}")
    print(f"\nundisturbed run: {seconds:.0f} s; {len(expected)} files compared\n")
    print("| killed in stage | times |\n| --- | --- |")
    for where in (*stages_done(undisturbed), "after the report"):
        print(f"| {where} | {kills[where]} |")
    print(f"| all | {kills.total()} |\n\nruns that ended with the same files, byte by byte: {same} of {runs}")


if __name__ == "__main__":
    main()

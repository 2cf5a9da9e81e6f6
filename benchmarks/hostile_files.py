"""The most memory that a process takes which opens files and model directories made to fill it.

    python benchmarks/hostile_files.py

The files are those of `tests/data/test_hostile.py`: small on disk and huge when unpacked, or one row without end. Each
is opened by a process of its own. The first row is a process that opens none. The directories are those of
`tests/models/test_hostile_models.py`; one process opens all of them, the tokenizer, the configuration and the model of
each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS / "data"))
sys.path.insert(0, str(TESTS / "models"))
sys.path.insert(0, str(TESTS / "helpers"))

from test_hostile import FILES, LOAD  # noqa: E402
from test_hostile_models import open_all  # noqa: E402

OPEN_NONE = LOAD.partition("path, *columns")[0] + LOAD[LOAD.index("status = ") :]


def opened(code: str, *arguments: str | Path) -> tuple[str, int]:
    """How a process ends, and its peak memory in MB."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    said, peak = done.stdout.rsplit("peak", 1)
    return "refused" if said.startswith("refused: ") else "NOT REFUSED", int(peak)


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| file | kind | bytes on disk | | peak memory, MB |\n| --- | --- | --- | --- | --- |")
    print(f"| none | | | | {opened(OPEN_NONE)[1]} |")
    for title, (arguments, write, _) in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            name, *columns = arguments.split()
            path = Path(folder) / name
            write(path)
            given = [] if name.endswith((".xml", ".yaml")) else ["question=q", "answer=a", *columns]
            how, peak = opened(LOAD, path, *given)
            on_disk = path.stat().st_blocks * 512
        print(f"| {title} | {path.suffix[1:]} | {on_disk:,} | {how} | {peak} |", flush=True)
    print("\n| model directory | bytes | | peak memory, MB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, (said, peak, size) in open_all(Path(folder)).items():
            how = "" if name == "none" else "refused" if said else "NOT REFUSED"
            print(f"| {name} | {size:,} | {how} | {peak} |")


if __name__ == "__main__":
    main()

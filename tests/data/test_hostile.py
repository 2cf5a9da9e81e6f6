"""Files that would fill the memory: small on disk and huge when unpacked, or one row without end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molsaki.data import load_problems
from molsaki.errors import DataError

MAX_MEGABYTES = 600
LONG = "a" * 4_000_000
ROWS = 3000
LOAD = """
import sys
from pathlib import Path
from molsaki.config.load import read_recipe
from molsaki.data import load_problems
from molsaki.errors import InputError
path, *columns = sys.argv[1:]
try:
    if path.endswith(".yaml"):
        read_recipe(path)
    else:
        source = "asdiv" if path.endswith(".xml") else "table"
        load_problems(source, path, columns=dict(c.split("=") for c in columns) or None)
except InputError as error:
    print("refused:", error)
status = Path("/proc/self/status").read_text()  # ru_maxrss begins with the parent's
print("peak", int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def repeated(value: str, times: int) -> pa.Array:
    """A text that is stored once and stands in many rows."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


def parquet(**options: object) -> Callable[[Path, dict[str, object]], None]:
    def write(path: Path, columns: dict[str, object]) -> None:
        pq.write_table(pa.table({"q": ["What is it?"], "a": ["1"], **columns}), path, compression="zstd", **options)

    return write


def text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


DELTA = parquet(use_dictionary=False, column_encoding={"q": "DELTA_BYTE_ARRAY", "a": "PLAIN"})
FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "one text in many rows": (
        "x.parquet",
        lambda path: parquet()(path, {"q": repeated(LONG, ROWS), "a": ["1"] * ROWS}),
        "more than 100000 characters",
    ),
    "one text in many rows of a part": (
        "x.parquet choices=c.text",
        lambda path: parquet()(
            path,
            {
                "q": ["x?"] * ROWS,
                "a": ["1"] * ROWS,
                "c": pa.StructArray.from_arrays([repeated(LONG, ROWS)], names=["text"]),
            },
        ),
        "the text of the choices has more than",
    ),
    "one text in a long list": (
        "x.parquet choices=c",
        lambda path: parquet()(
            path, {"c": pa.ListArray.from_arrays(pa.array([0, 100_000]), repeated(LONG[:100_000], 100_000))}
        ),
        "every row .* to unpack into at most",
    ),
    "nothing, sixteen million times": (
        "x.parquet choices=c",
        lambda path: parquet()(path, {"c": pa.array([[None] * 16_000_000], pa.list_(pa.string()))}),
        "every row .* to unpack into at most",
    ),
    "nothing, twenty million times": (
        "x.parquet choices=c",
        lambda path: parquet()(path, {"c": pa.array([[None] * 20_000_000], pa.list_(pa.string()))}),
        "values in a column of a row group",
    ),
    "texts that differ by nothing": (
        "x.parquet",
        lambda path: DELTA(path, {"q": [LONG] * 200, "a": ["1"] * 200}),
        "more than 100000 characters",
    ),
    "a map": (
        "x.parquet choices=c",
        lambda path: parquet()(path, {"c": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))}),
        "texts, numbers, lists and structs",
    ),
    "wide cells of bytes": (
        "x.parquet choices=c",
        lambda path: parquet()(path, {"c": pa.array([b"a" * 1000], pa.binary(1000))}),
        "texts, numbers, lists and structs",
    ),
    "one line without end": ("x.jsonl", lambda path: text(path, '{"q": "' + "a" * 100_000_000), "rows of at most"),
    "a hole of a gigabyte": (
        "x.jsonl",
        lambda path: (text(path, "{}"), os.truncate(path, (1 << 30) - 1))[0],
        "at most",
    ),
    "a row of empty lists": (
        "x.json",
        lambda path: text(path, '[{"q": [' + "[]," * 20_000_000 + "[]]}]"),
        "rows of at most",
    ),
    "rows of empty lists in an object": (
        "x.json rows=data",
        lambda path: text(path, '{"data": [' + "[]," * 500_000 + "[]]}"),
        "not an object",
    ),
    "brackets without end": ("x.json", lambda path: text(path, "[" * 50_000_000), "nested too deeply"),
    "one cell without end": ("x.csv", lambda path: text(path, 'q,a\n"' + "a" * 100_000_000), "rows of at most"),
    "a header without end": ("x.csv", lambda path: text(path, "a," * 50_000_000), "rows of at most"),
    "elements inside elements": ("x.xml", lambda path: text(path, "<a>" * 1_300_000), "one whole XML document"),
    "aliases of aliases": (
        "x.yaml",
        lambda path: text(
            path, "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]\n" for i in range(99))
        ),
        "no aliases",
    ),
    "a recipe of noughts": ("x.yaml", lambda path: text(path, f"x: [{'0,' * 250_000}]"), "at most 100000 values"),
    "a recipe of brackets": ("x.yaml", lambda path: text(path, "[" * 1_000_000), "cannot be parsed"),
    "a large recipe": (
        "x.yaml",
        lambda path: (text(path, "a"), os.truncate(path, 1 << 40))[0],
        "at most 1048576 bytes",
    ),
    "a large tree": ("x.xml", lambda path: text(path, "<a>" * 2_000_000), "at most 4194304 bytes"),
}


@pytest.mark.parametrize(("arguments", "write", "message"), FILES.values(), ids=FILES.keys())
def test_a_hostile_file_is_refused_in_bounded_memory(
    arguments: str, write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    name, *columns = arguments.split()
    write(tmp_path / name)
    given = [] if name.endswith((".xml", ".yaml")) else ["question=q", "answer=a", *columns]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / name, *given], capture_output=True, text=True, check=True, timeout=300
    )
    refused, peak = done.stdout.rsplit("peak", 1)
    print(f"{int(peak)} MB")  # pytest -rP shows it
    assert refused.startswith("refused: ")
    with pytest.raises(DataError, match=message):
        raise DataError(refused)
    assert int(peak) < MAX_MEGABYTES


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet()(path, {"q": ["x?"] * ROWS, "a": ["1"] * ROWS, "image": repeated(LONG, ROWS)})
    assert len(load_problems("table", path, columns={"question": "q", "answer": "a"})) == ROWS
    with pytest.raises(DataError, match=r"q, a, image\. .*did you mean 'image'"):
        load_problems("table", path, columns={"question": "q", "answer": "a", "rationale": "imag"})


def test_a_pipe_and_a_device_are_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    (tmp_path / "x.csv").symlink_to("/dev/zero")
    for name in ("x.jsonl", "x.csv"):
        with pytest.raises(DataError, match="a folder, a pipe or a device"):
            load_problems("table", tmp_path / name, columns={"question": "q", "answer": "a"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", '{"q": "SECRET", "a": "SECRET"}\n'),
        ("x.jsonl", '{"q": "SECRET" SECRET}\n'),
        ("x.jsonl", '{"q": SECRET}\n{}\n'),
        ("x.json", '[{"q": "SECRET", "a": "SECRET SECRET}]'),
        ("x.json", '[{"q": "SECRET"} SECRET]'),
        ("x.json", '{"SECRET"\n SECRET'),
        ("x.csv", "SECRET,SECRET\nSECRET,\n"),
        ("x.csv", 'q,a\n"SECRET"SECRET,\n'),
        ("x.csv", "q,a\nSECRET\n"),
        ("x.csv", "q,a\nSECRET,SECRET\n"),
        ("x.parquet", "PAR1SECRETPAR1"),
        ("x.xml", "<SECRET>"),
        ("x.xml", "<r>&SECRET;</r>"),
    ],
)
def test_what_stands_in_a_file_is_not_shown(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    source = "asdiv" if name.endswith(".xml") else "table"
    columns = {"question": "q", "answer": "a", "id": "q"} if source == "table" else None
    with pytest.raises(DataError) as caught:
        load_problems(source, tmp_path / name, columns=columns)
    assert "SECRET" not in str(caught.value)

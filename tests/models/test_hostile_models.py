"""Model directories that would fill the memory or never end: each is refused, in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_broken_models import BROKEN

from molsaki.data.pocket import STUDENT

MAX_MEGABYTES = 1000
"""Of a process with PyTorch and transformers, which take half of it."""
OPEN = """
import json, sys
from pathlib import Path
from molsaki.config.model_spec import ModelSpec
from molsaki.errors import InputError
from molsaki.models.load import model_at, quiet_libraries, tokenizer_at
from molsaki.models.memory import peak_bytes, reset_peak
from molsaki.models.outline import _on_meta_device
quiet_libraries()
tokenizer_at(sys.argv[1]), model_at(sys.argv[1])
reset_peak()
print(json.dumps(["none", [], peak_bytes() // 2**20]), flush=True)
for folder in sys.argv[2:]:
    said = []
    reset_peak()
    for open_it in (tokenizer_at, lambda name: _on_meta_device(ModelSpec(name=name)), model_at):
        try:
            open_it(folder)
        except InputError as error:
            said.append(str(error))
    print(json.dumps([Path(folder).name, said, peak_bytes() // 2**20]), flush=True)
"""


def configured(**values: object) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return write


def header(size: int) -> Callable[[Path], object]:
    """Weights whose header is said to have this many bytes."""
    return lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + b"{}")


def large(name: str, size: int) -> Callable[[Path], object]:
    """A file of this many bytes, most of them a hole."""

    def write(folder: Path) -> None:
        (folder / name).write_text("{")
        os.truncate(folder / name, size)

    return write


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a configuration of 60 MB": (large("config.json", 60_000_000), "config.json with a text of at most"),
    "a configuration of brackets": (
        lambda folder: (folder / "config.json").write_text('{"a":' + "[" * 4_000_000),
        "RecursionError",
    ),
    "a hundred million layers": (configured(num_hidden_layers=10**8), "num_hidden_layers of at most"),
    "layers in a part of the configuration": (
        configured(text_config={"num_hidden_layers": 10**8}),
        "num_hidden_layers of at most",
    ),
    "a hundred billion tokens": (configured(vocab_size=10**11), "belongs to weights of"),
    "hidden states of a billion": (configured(hidden_size=10**9), "parameters"),
    "an index of 40 MB, a million parts": (
        large("model.safetensors.index.json", 40_000_000),
        "index.json with a text of at most",
    ),
    "a header of 100 MB": (header(10**8), "model.safetensors with a header of at most"),
    "a header of an exabyte": (header(1 << 60), "model.safetensors with a header of at most"),
    "a tokenizer of 110 MB": (large("tokenizer.json", 110_000_000), "tokenizer.json with a text of at most"),
    "a tokenizer of brackets": (
        lambda folder: (folder / "tokenizer.json").write_text("[" * 5_000_000),
        "Expected a tokenizer",
    ),
    "settings of a tokenizer of 60 MB": (
        large("tokenizer_config.json", 60_000_000),
        "tokenizer_config.json with a text of at most",
    ),
    **{
        f"{name} (see below)": (BROKEN[name][0], "Expected")
        for name in ("missing", "a hostile pickle", "cut in the middle", "cut in its header", "a part lost")
    },
}


def open_all(folder: Path) -> dict[str, tuple[list[str], int, int]]:
    """What is said of each directory, the largest memory in MB, and the bytes of its files."""
    sizes = {}
    for name, (write, _) in MODELS.items():
        write(shutil.copytree(STUDENT, folder / name))
        sizes[name] = sum(path.stat().st_size for path in (folder / name).iterdir())
    command = [sys.executable, "-c", OPEN, str(STUDENT), *(str(folder / name) for name in MODELS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (said, peak, sizes.get(name, 0)) for name, said, peak in found}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], int, int]]:
    return open_all(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_model_is_refused_in_bounded_memory(name: str, opened: dict[str, tuple[list[str], int, int]]) -> None:
    said, peak, _ = opened[name]
    assert any(MODELS[name][1] in one for one in said), said
    assert all(len(one) < 1500 for one in said)
    assert peak < MAX_MEGABYTES

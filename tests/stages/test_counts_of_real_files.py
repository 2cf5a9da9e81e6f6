"""The counts on the page about importing, from the files that it counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import molsaki

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(\w+)`[^|]*\| \d+ \|[^|]*\| (\d+) \|$", re.MULTILINE)
COUNTS = dict(ROW.findall((ROOT / "docs/importing.md").read_text(encoding="utf-8")))
CHOICES = (
    "rationales={source: file, path: eit/csqa_llama_level2_ranked.json, keywords: question-words}",
    "rationales.columns={completion: output, question: instruction, choices: instruction}",
    "data.train={source: commonsenseqa, path: cqa, split: train}",
)


@pytest.mark.shared_data
@pytest.mark.parametrize("file", COUNTS)
def test_the_page_has_the_counts_of_today(file: str, shared_data: Path, tmp_path: Path) -> None:
    recipe, settings = "smollm2-svamp-llama", (f"rationales.path=eit/{file}_ranked.json",)
    if file.startswith("gsm8k"):
        recipe = "smollm2-gsm8k-llama"
    if file.startswith("csqa"):
        recipe, settings = "smollm2-csqa", CHOICES
    options = [option for value in (*settings, "data.validation_rows=0") for option in ("--set", value)]
    shown = molsaki("generate", recipe, "--tiny", "--data", shared_data, "--out", tmp_path / "run", *options)
    assert shown.code == 0, shown.error
    assert f"rationales: {COUNTS[file]} of " in shown.text


def test_the_page_counts_five_files() -> None:
    assert len(COUNTS) == 5

"""Names of models where the hub cannot be reached: refused at once, unless they were downloaded before."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from molsaki.errors import InputError
from molsaki.models.hub import require_hub
from molsaki.models.load import tokenizer_at

NOWHERE = "http://127.0.0.1:9"
"""A port that nothing listens on."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_a_misspelt_directory_is_not_looked_up_for_minutes() -> None:
    with pytest.raises(InputError) as error:
        tokenizer_at("nobody/no-such-model")
    assert all(part in str(error.value) for part in ("nobody/no-such-model", NOWHERE, "--models"))


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json", "tokenizer_config.json"])
def test_what_was_downloaded_before_needs_no_hub(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "models--somebody--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / file).write_text("{}")
    require_hub("somebody/model")

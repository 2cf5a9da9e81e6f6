"""Exported signals on a hub: pushed, pulled, found by name, and refused where they are not what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import files, molsaki
from huggingface_hub import HfApi, constants
from local_hub import LocalHub
from small_world import make_problems, make_run

import molsaki as package
from molsaki.errors import ArtefactError, DataError
from molsaki.stages.export_signals import ExportForm, export_signals
from molsaki.stages.signals_hub import find_signals, pull, push

NAME = "me/where-it-looks"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield server


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_none")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_signals(make_run(tmp_path / "run", make_problems(6)), tmp_path / "out", ExportForm())
    return tmp_path / "out"


def test_what_is_pulled_is_what_was_pushed(hub: LocalHub, api: HfApi, exported: Path, tmp_path: Path) -> None:
    assert push(exported, NAME, api=api).endswith(hub.commit(NAME))
    assert pull(NAME, tmp_path / "pulled", api=api) == hub.commit(NAME)
    assert files(tmp_path / "pulled") == files(exported)
    assert files(exported).keys() == hub.files[NAME].keys()
    assert len(package.load_signals(tmp_path / "pulled")) == 6


def test_signals_are_found_by_their_name_and_downloaded_once(hub: LocalHub, api: HfApi, exported: Path) -> None:
    push(exported, NAME, api=api)
    folder = find_signals(NAME)
    assert len(package.load_signals(NAME)) == 6
    assert files(folder) == files(exported)
    before = len([path for path in hub.asked if "resolve" in path])
    asked = len(hub.asked)
    assert find_signals(f"{NAME}@{hub.commit(NAME)}") == folder
    assert len(hub.asked) == asked, "a commit that is there needs no network"
    package.load_signals(NAME)
    assert len([path for path in hub.asked if "resolve" in path]) == before


def test_only_files_of_an_export_are_downloaded(hub: LocalHub, api: HfApi, exported: Path, tmp_path: Path) -> None:
    push(exported, NAME, api=api)
    hub.files[NAME]["evil.py"] = hub.files[NAME][".gitattributes"] = b"raise SystemExit"
    pull(NAME, tmp_path / "pulled", api=api)
    assert files(tmp_path / "pulled") == files(exported)


def test_a_file_that_was_changed_on_the_hub_is_refused(
    hub: LocalHub, api: HfApi, exported: Path, tmp_path: Path
) -> None:
    push(exported, NAME, api=api)
    name = next(name for name in hub.files[NAME] if name.endswith(".safetensors"))
    data = hub.files[NAME][name]
    hub.files[NAME][name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ArtefactError, match="SHA-256"):
        pull(NAME, tmp_path / "pulled", api=api)
    for _ in range(2):  # what was downloaded is not taken for whole the next time
        with pytest.raises(ArtefactError, match="SHA-256"):
            find_signals(NAME)
    hub.files[NAME][name] = data
    pull(NAME, tmp_path / "pulled", api=api)
    assert files(tmp_path / "pulled") == files(exported)


def test_a_large_file_is_refused_before_it_is_downloaded(
    hub: LocalHub, api: HfApi, exported: Path, tmp_path: Path
) -> None:
    push(exported, NAME, api=api)
    hub.sizes["rows.jsonl"] = 1 << 40
    with pytest.raises(ArtefactError, match=r"rows\.jsonl"):
        pull(NAME, tmp_path / "pulled", api=api)
    assert not [path for path in hub.asked if "resolve" in path]


def test_a_damaged_export_is_not_pushed(hub: LocalHub, api: HfApi, exported: Path) -> None:
    (exported / "rows.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"rows\.jsonl"):
        push(exported, NAME, api=api)
    assert NAME not in hub.files


@pytest.mark.parametrize("name", ["alone", "../up", "a/b/c", "a/b@", "a b/c", ""])
def test_a_name_that_is_none_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        push(exported, name)
    with pytest.raises(DataError):
        pull(name, tmp_path / "pulled")


def test_a_data_set_that_is_missing_is_a_message(hub: LocalHub, tmp_path: Path) -> None:
    shown = molsaki("signals", "pull", "me/nothing", tmp_path / "pulled")
    assert shown.code == 2
    assert "me/nothing" in shown.error
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "me/nothing"))):
        find_signals("me/nothing", tmp_path)


def test_a_hub_that_is_not_there_is_a_message(exported: Path) -> None:
    with pytest.raises(DataError):
        push(exported, NAME, api=HfApi(endpoint="http://127.0.0.1:9"))


def test_a_folder_with_other_files_is_left_alone(hub: LocalHub, api: HfApi, exported: Path, tmp_path: Path) -> None:
    push(exported, NAME, api=api)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtefactError):
        pull(NAME, tmp_path / "mine", api=api)
    assert files(tmp_path / "mine") == {"mine.txt": b"mine"}

"""Exported signals on the Hugging Face hub: push a folder, pull one, find one by its name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants

from molsaki.config.recipe import Recipe
from molsaki.errors import ArtefactError, DataError
from molsaki.store.exported_files import FILES, MANIFEST, file_problems, list_files, most_bytes

_NAME = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w][\w./-]{0,199}))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def find_signals(source: str, root: Path | None = None) -> Path:
    """The folder of signals: a local one, or one of the hub in the cache of this machine.

    Args:
        source: a folder, or `owner/name[@revision]`. A folder that exists is never looked for on the hub.
        root: the folder that a relative path starts from.

    Raises:
        DataError: there is no such folder, and the hub has no such data set or cannot be reached.
        ArtefactError: what was downloaded is not what its list of files says.
    """
    folder = Path(source) if root is None else root / source
    match = _NAME.fullmatch(source)
    if folder.is_dir() or match is None:
        if not folder.is_dir():
            raise DataError(
                f"Expected a run directory, a folder of exported signals, or owner/name on the hub; {folder} is not a "
                "folder. Check the path."
            )
        return folder
    try:
        return _cached(match["repository"], match["revision"])
    except DataError as error:
        raise DataError(f"{error} There is no folder {folder} either.") from error


def signals_folder(recipe: Recipe) -> Path:
    """The folder of the exported signals that a recipe names, downloaded if it is on the hub.

    Raises:
        DataError: there is no such folder, and the hub has no such data set or cannot be reached.
        ArtefactError: what was downloaded is damaged.
    """
    assert recipe.signals is not None
    return find_signals(recipe.signals, recipe.data_root())


def push(folder: Path, name: str, *, private: bool = False, api: HfApi | None = None) -> str:
    """Upload exported signals as a data set of the hub. All files are checked first.

    Args:
        folder: the folder of an export.
        name: `owner/name`; a missing data set is created.
        private: create it as private.
        api: the hub; by default the one that huggingface_hub is set up for.

    Returns:
        The address of the commit.

    Raises:
        ArtefactError: a file is missing, changed, or no file of an export.
        DataError: the name is not owner/name, or the hub refuses or cannot be reached.
    """
    repository, revision = _parse(name)
    if revision is not None:
        raise DataError(f"Expected owner/name to push to; got {name!r}. Nothing was uploaded; leave the revision out.")
    _require_whole(folder)
    files, _ = list_files(folder)
    api = api or HfApi()
    with _hub(repository):
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Signals of a teacher, exported with molsaki",
        )
    return str(commit.commit_url)


def pull(name: str, folder: Path, api: HfApi | None = None) -> str:
    """Download exported signals, and check every file. A download that was interrupted is continued.

    Only files with the names of an export are downloaded, after their sizes were checked.

    Args:
        name: `owner/name[@revision]`.
        folder: where to; missing, empty, or with files of the same export.
        api: the hub; by default the one that huggingface_hub is set up for.

    Returns:
        The commit that was downloaded.

    Raises:
        DataError: the name is not owner/name, or the hub has no such data set or cannot be reached.
        ArtefactError: the data set is not an export, a file is too large or damaged, or the folder has other files.
    """
    repository, revision = _parse(name)
    if folder.exists() and (others := list_files(folder)[1]):
        raise ArtefactError(
            f"Expected a missing or empty folder, or a part of this export; {folder} has {others[:5]}. Nothing was "
            "downloaded; choose another folder."
        )
    api = api or HfApi()
    with _hub(repository):
        commit, names = _files_of(api, repository, revision)
        api.snapshot_download(
            repository, repo_type="dataset", revision=commit, local_dir=folder, allow_patterns=names, max_workers=4
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # notes of the download
    _require_whole(folder)
    return commit


def _files_of(api: HfApi, repository: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit of a data set, and the names of its files that belong to an export."""
    info = api.dataset_info(repository, revision=revision, files_metadata=True)
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    names = [name for name in sizes if most_bytes(name) is not None]
    large = [name for name in names if sizes[name] > (most_bytes(name) or 0)]
    if large or not {MANIFEST, FILES} <= set(names) or not info.sha:
        got = f"{large[0]} of {sizes[large[0]]} bytes" if large else f"no {MANIFEST} and {FILES}"
        raise ArtefactError(
            f"Expected exported signals in the data set {repository}; got {got}. Nothing was downloaded; check the "
            "name."
        )
    return info.sha, names


def _cached(repository: str, revision: str | None) -> Path:
    """The folder of the cache with a data set of the hub, downloaded if it is not there."""
    cache = Path(constants.HF_HOME) / "molsaki" / "signals" / repository
    if revision is None or not _COMMIT.fullmatch(revision):
        with _hub(repository):
            revision, _ = _files_of(HfApi(), repository, revision)
    folder = cache / revision
    if not (folder / FILES).is_file() or (folder / ".cache").exists():
        try:
            pull(f"{repository}@{revision}", folder)
        except ArtefactError:
            shutil.rmtree(folder, ignore_errors=True)  # else it would count as downloaded
            raise
    return folder


def _parse(name: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"Expected owner/name or owner/name@revision; got {name!r}. Nothing was done.")
    return match["repository"], match["revision"]


def _require_whole(folder: Path) -> None:
    if problems := file_problems(folder):
        raise ArtefactError(
            f"Expected the files of the export {folder} as they were exported; got {len(problems)} problems:\n  "
            + "\n  ".join(problems[:20])
            + "\nIt must not be used or shared; export or download it again."
        )


@contextmanager
def _hub(repository: str) -> Iterator[None]:
    """Turn the errors of the hub into messages."""
    try:
        yield
    except (ArtefactError, DataError):
        raise
    except (OSError, ValueError, httpx2.HTTPError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise DataError(
            f"Expected the hub to have the data set {repository} and to be reached; got: {first}. Nothing else was "
            "done; check the name and the network, and log in with `hf auth login` if it is private or yours."
        ) from error

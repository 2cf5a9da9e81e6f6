"""The directory of one run: its recipe, its manifest and the manifests of its finished stages.

It belongs to one recipe. Opening it with another recipe raises an error that lists the differences. Nothing is
overwritten or deleted unless the caller requests it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import yaml

from molsaki.counts import plural
from molsaki.errors import ArtefactError, DataError, StageError
from molsaki.records import hash_json
from molsaki.store.fingerprints import differences, versions
from molsaki.store.locks import LOCK_NAME, exclusive_lock
from molsaki.store.strict_yaml import dump_yaml, parse_yaml
from molsaki.store.whole_files import (
    LEFTOVER_PREFIX,
    encode_json,
    read_json,
    read_regular,
    refuse_write,
    remove_unfinished,
    write_json,
    write_whole,
)

RECIPE_NAME = "recipe.yaml"
MANIFEST_NAME = "manifest.json"
STAGES_NAME = "stages"
METRICS_NAME = "metrics.json"
"""The file of a student's directory with the metrics of its training."""

MAX_RESOLVED_BYTES = 1 << 24
"""The largest recipe of a run that is read; it has the texts of the prompts, and a study's many entries."""

_KIND = "molsaki run"
_FORMAT = 1
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

logger = logging.getLogger(__name__)


class RunDirectory:
    """An existing run directory.

    Args:
        path: the directory, created by `open_or_create`.

    Attributes:
        folder: the directory.
        manifest: its manifest, with the date of creation, the versions of packages, and the hash of its recipe.
        recipe: the resolved recipe that it belongs to.

    Raises:
        ArtefactError: `path` is not a run, is an unfinished one, or its recipe was changed by hand.
        DataError: its manifest is cut or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path
        self.manifest = _read_manifest(path)
        self.recipe = _read_recipe(path, self.manifest)

    @classmethod
    def open_or_create(
        cls,
        path: Path,
        recipe: Mapping[str, Any],
        overwrite: bool = False,
        grow: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any] | None] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the run directory of a recipe, or create it if the path is missing or empty.

        A run in which nothing was made yet takes another recipe, such as one whose mistakes were corrected.

        Args:
            path: the directory.
            recipe: the resolved recipe as plain JSON values, without keys that may change between calls.
            overwrite: start over: first delete an existing run at `path`, of any recipe, with all files in its
                directory. A directory that is not a run is never deleted.
            grow: merges the run's recipe with the given one and returns the recipe that the run belongs to from now
                on, or None if they cannot be merged. Without it, the two recipes must be equal.
            facts: more keys for the manifest of a run that is created.

        Raises:
            ArtefactError: the directory holds a run of another recipe (each key that differs is named with
                both values), is not a run, or is an unfinished one.
            DataError: the recipe is not plain JSON, or the manifest is cut or malformed.
            StageError: the directory cannot be written, or another process holds it while it must be created or
                deleted.
        """
        wanted = json.loads(encode_json(dict(recipe), "the resolved recipe"))
        if _is_to_be_made(path) or overwrite:
            _create(path, wanted, overwrite, facts or {})
        run = cls(path)
        together = None if grow is None else grow(run.recipe, wanted)
        if together is not None:
            wanted = json.loads(encode_json(dict(together), "the resolved recipe"))
            if wanted != run.recipe:
                _replace_recipe(path, run, wanted)
                run = cls(path)
        lines = differences(run.recipe, wanted)
        if lines and _is_untouched(path):  # a mistake was found before anything was run, and corrected
            _create(path, wanted, overwrite, facts or {})
            return cls(path)
        if lines:
            raise ArtefactError(
                f"Expected the run directory {path} to belong to this recipe; it belongs to another one, and "
                f"{plural(len(lines), 'key')} {'differs' if len(lines) == 1 else 'differ'}:\n"
                + "\n".join(lines)
                + "\nIt was not changed, since the results of two recipes would be mixed. Methods and seeds may be "
                "added; for other changes choose another directory, change the recipe back, or give `--overwrite` "
                "(`molsaki run` and `generate`; not `study`), which deletes the existing run."
            )
        return run

    @property
    def date(self) -> datetime.date:
        """The day on which the run was created: what a chat template prints as today's date.

        Raises:
            ArtefactError: the manifest has no such date.
        """
        try:
            return datetime.datetime.fromisoformat(self.manifest["created"]).date()
        except (KeyError, TypeError, ValueError):
            _refuse(self.folder, "the manifest of a run with its date of creation", "one without")

    @contextmanager
    def lock(self, *, to_read: bool = False) -> Iterator[None]:
        """Lock the directory against other processes while the context is open.

        Args:
            to_read: the directory is only read. On a read-only file system it is then not locked.

        Raises:
            StageError: another process holds it (the message names the process), or has replaced its recipe.
        """
        with exclusive_lock(self.folder, "the run directory", to_read=to_read) as is_locked:
            if _read_manifest(self.folder).get("recipe_hash") != self.manifest.get("recipe_hash"):
                raise StageError(
                    f"Expected the run directory {self.folder} to keep its recipe; another process has replaced it. "
                    "Nothing was changed; run the same command again."
                )
            if is_locked:
                remove_unfinished(self.folder)
                remove_unfinished(self.folder / STAGES_NAME)
            yield

    def path(self, *parts: str) -> Path:
        """A path inside the directory; nothing is created.

        Args:
            parts: names of folders and finally of a file; a part may hold several names joined by `/`.

        Raises:
            ArtefactError: a part would lead out of the directory or cannot be a name.
        """
        names = [name for part in parts for name in part.split("/")]
        for name in names:
            if name in ("", ".", "..") or not name.isprintable() or "\\" in name or len(name.encode()) > 255:
                raise ArtefactError(
                    f"Expected names inside the run directory {self.folder}; got {parts!r}, where {name!r} "
                    f"is not one. Nothing was read or written, since it could be outside; use plain names, "
                    f"and keep ids of rows inside files, not in their names."
                )
        return self.folder.joinpath(*names)

    def stage_done(self, stage: str) -> dict[str, Any] | None:
        """The manifest that a stage left when it finished, or None if it has not.

        Raises:
            DataError: the stage's manifest is cut or malformed.
        """
        path = self.stage_path(stage)
        if not path.exists():
            return None
        value = read_json(path, f"the manifest of the stage {stage!r}")
        if not isinstance(value, dict):
            _refuse(path, "the manifest of a stage, a JSON object", f"a {type(value).__name__}")
        return value

    def finish_stage(self, stage: str, manifest: Mapping[str, Any]) -> None:
        """Mark a stage as finished by writing its manifest; an existing manifest is replaced.

        Raises:
            DataError: the manifest is not plain JSON.
            StageError: it cannot be written; the stage counts as not finished.
        """
        write_json(self.stage_path(stage), dict(manifest))

    def stage_path(self, stage: str) -> Path:
        """The file of a stage's manifest.

        Raises:
            ArtefactError: the stage's name cannot name a file.
        """
        if not _STAGE.fullmatch(stage):
            raise ArtefactError(
                f"Expected a stage's name of letters, digits, '.', '_' and '-'; got {stage!r}. It cannot "
                f"name a file; use such a name."
            )
        return self.folder / STAGES_NAME / f"{stage}.json"


def is_run(path: Path) -> bool:
    """Whether a directory holds a run whose creation was finished."""
    return (path / MANIFEST_NAME).is_file() and (path / RECIPE_NAME).is_file()


def _is_to_be_made(path: Path) -> bool:
    """Whether a run can be created here: the path is missing, empty, or holds an interrupted creation."""
    try:
        if not path.exists():
            return True
        if not path.is_dir():
            _refuse(path, "a run directory, or a path where one can be created", "a file")
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(LEFTOVER_PREFIX)}
    except OSError as error:
        refuse_write(path, error, "It cannot be used as a run directory.")
    if MANIFEST_NAME in names:
        _read_manifest(path)  # raises unless it is ours
    return names <= {LOCK_NAME, MANIFEST_NAME}


def _is_untouched(path: Path) -> bool:
    """Whether a run directory has a recipe and nothing that was made with it."""
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(LEFTOVER_PREFIX)}
    return names <= {LOCK_NAME, MANIFEST_NAME, RECIPE_NAME}


def _create(path: Path, recipe: Mapping[str, Any], overwrite: bool, facts: Mapping[str, Any]) -> None:
    """Create the run, the manifest first: a directory with a manifest and no recipe is an unfinished run."""
    text = _as_yaml(recipe)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        refuse_write(path, error, "No run directory was created.")
    if not _is_to_be_made(path):
        _read_manifest(path)  # raises unless this is a run
    with exclusive_lock(path, "the run directory"):
        if _is_to_be_made(path) or _is_untouched(path):
            (path / RECIPE_NAME).unlink(missing_ok=True)  # first, so that no manifest has another run's recipe
            remove_unfinished(path)
        elif overwrite:
            _empty(path)
        else:
            return  # another process has created it in between
        manifest = {
            "kind": _KIND,
            "format": _FORMAT,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "recipe_hash": hash_json(recipe),
            "versions": versions(),
            **facts,
        }
        write_json(path / MANIFEST_NAME, manifest)
        write_whole(path / RECIPE_NAME, text)


def _replace_recipe(path: Path, run: RunDirectory, recipe: Mapping[str, Any]) -> None:
    """Replace a run's recipe. The manifest keeps the old hash too, so a kill in between leaves a run that opens."""
    text = _as_yaml(recipe)
    with exclusive_lock(path, "the run directory"):
        # Hash the recipe on the disk: after a kill in between, the manifest's hash is of a recipe never written.
        hashes = {"recipe_hash": hash_json(recipe), "earlier_recipe_hash": hash_json(run.recipe)}
        write_json(path / MANIFEST_NAME, {**run.manifest, **hashes})
        write_whole(path / RECIPE_NAME, text)


def _as_yaml(recipe: Mapping[str, Any]) -> str:
    for readable in (True, False):  # some control characters only read back when everything is escaped
        text = dump_yaml(recipe, allow_unicode=readable)
        with contextlib.suppress(ValueError, yaml.YAMLError):
            if hash_json(parse_yaml(text)) == hash_json(recipe):
                return text
    raise DataError(
        "Expected a recipe that reads back from YAML unchanged; this one does not. No run directory was created; "
        "remove unusual characters from the recipe's texts, or some of its methods."
    )


def _empty(path: Path) -> None:
    """Delete a run, the recipe first, so that a partly deleted run never opens as one."""
    logger.warning("the run in %s is deleted, as asked", path)
    rest = [entry for entry in path.iterdir() if entry.name not in (LOCK_NAME, MANIFEST_NAME, RECIPE_NAME)]
    try:
        (path / RECIPE_NAME).unlink(missing_ok=True)
        for entry in rest:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
    except OSError as error:
        refuse_write(path, error, "The run in it is deleted in part only; give `--overwrite` again.")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST_NAME).is_file():
        _refuse(path, f"a run directory (one with a {MANIFEST_NAME})", "a directory with other things, or none")
    manifest = read_json(path / MANIFEST_NAME, "the manifest of a run")
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        _refuse(path / MANIFEST_NAME, "the manifest of a run", "another JSON file")
    if manifest.get("format") != _FORMAT:
        _refuse(path, f"a run directory of format {_FORMAT}", f"format {manifest.get('format')!r}")
    return manifest


def _read_recipe(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    try:
        recipe = parse_yaml(read_regular(path / RECIPE_NAME, MAX_RESOLVED_BYTES).decode())
        known = (manifest.get("recipe_hash"), manifest.get("earlier_recipe_hash"))
        changed = not isinstance(recipe, dict) or hash_json(recipe) not in known
    except FileNotFoundError:
        _refuse(path, f"a run directory with a {RECIPE_NAME}", "one whose making or deletion was interrupted")
    except OSError as error:
        _refuse(path / RECIPE_NAME, "the resolved recipe of a run", f"a file that cannot be read: {error}")
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:  # whose message may have the file's text
        _refuse(path / RECIPE_NAME, "the resolved recipe of a run", f"something else ({type(error).__name__})")
    if changed or not isinstance(recipe, dict):
        _refuse(
            path / RECIPE_NAME,
            "the resolved recipe that the run was created with",
            "one that was changed afterwards (its hash is not the manifest's)",
        )
    return recipe


def _refuse(path: Path, expected: str, got: str) -> NoReturn:
    raise ArtefactError(
        f"Expected {expected} at {path}; got {got}. It is not used and was not changed; choose another "
        f"directory, put the file back from a copy, or (if it is a run) give `molsaki run` or `generate` `--overwrite`."
    )

"""`molsaki export`: a student as a model directory of its own, to be given away or converted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from molsaki.errors import ArtefactError, InputError
from molsaki.models.checkpoint import find_adapter
from molsaki.models.load import model_at, quiet_libraries, tokenizer_at
from molsaki.models.shapes import shapes_of
from molsaki.stages.student_cards import student_card
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import write_whole
from molsaki.training.card import require_license


def export_student(student: Path, out: Path, *, license_name: str | None = None, remote_code: bool = False) -> Path:
    """Write a student whole: weights in safetensors, tokenizer with its chat template, generation settings, model card.

    An adapter is merged into its base, in the precision that the recipe names.

    Args:
        student: the student's directory in its run, such as `runs/NAME/students/molsaki-1`.
        out: the directory to write; must not exist.
        license_name: the license for the card, as the hub writes it, such as `apache-2.0`.
        remote_code: run code that comes with the student, if the run's recipe does.

    Returns:
        `out`.

    Raises:
        ArtefactError: `out` exists.
        InputError: `student` is not a student of a run, cannot be loaded, or comes with code that is not allowed; or
            the hub cannot have such a license.
    """
    quiet_libraries()
    if license_name is not None:
        require_license(license_name)
    if out.exists():
        raise ArtefactError(
            f"Expected no file or folder at {out} yet; there is something. It is left as it is and nothing was "
            "exported; choose another path, or move it away."
        )
    workspace, label, seed = _run_of(student)
    if not remote_code:
        workspace.require_no_remote_code()
    # What is given away is not quantised, so the base of a quantised student is loaded whole.
    recipe = workspace.recipe
    dtype = recipe.student_of(seed).dtype if find_adapter(str(student)) is not None else "auto"
    trusted = recipe.student.trust_remote_code
    model = model_at(str(student), dtype=dtype, trust_remote_code=trusted)
    tokenizer = tokenizer_at(str(student), trust_remote_code=trusted)
    metrics = workspace.read_metrics(label, seed)
    spec = workspace.method(label)
    compares = spec.terms.attention is not None
    layers = shapes_of(model).layers if compares else None
    card = student_card(
        workspace,
        label,
        seed,
        int(metrics.get("examples", 0)),
        layers,
        processes=int(metrics.get("processes", 1)),
        exported=True,
        license_name=license_name,
    )
    model.config.use_cache = True
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        working = Path(temporary) / out.name
        model.save_pretrained(working)
        tokenizer.save_pretrained(working)
        write_whole(working / "README.md", card)
        for weights in working.glob("*.safetensors"):  # safetensors makes them readable by their owner only
            weights.chmod((working / "README.md").stat().st_mode & 0o777)
        working.replace(out)
    return out


def _run_of(student: Path) -> tuple[Workspace, str, int]:
    """The run that a student's directory is in, with the student's method and seed."""
    run = student.resolve().parent.parent
    if student.is_dir() and (run / "recipe.yaml").is_file():
        workspace = Workspace.open(run)
        for method in workspace.recipe.methods:
            for seed in workspace.recipe.seeds:
                if workspace.student(method.label, seed).resolve() == student.resolve():
                    return workspace, method.label, seed
    raise InputError(
        f"Expected the directory of a trained student in its run, such as runs/NAME/students/molsaki-1; got {student}. "
        "Its card needs the run's recipe and scores, so nothing was exported."
    )

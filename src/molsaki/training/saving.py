"""Saving a trained student: a plain model directory, complete or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.errors import StageError
from molsaki.store.run_directory import METRICS_NAME
from molsaki.store.whole_files import write_json, write_whole
from molsaki.training.trainer import DistillationTrainer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TRACKED = "runs"
"""The folder that trackers write to, beside the checkpoints and then in the student's directory."""


def save_student(
    trainer: DistillationTrainer,
    output: Path,
    metrics: Mapping[str, Any],
    card: Callable[[], str] | None,
    finish: Callable[[PreTrainedModel | PeftModel, Path], None] | None,
) -> None:
    """Write a trained student under a temporary name, then give it its own and remove its checkpoints.

    Every process calls this.

    Args:
        trainer: the trainer, after its last step. Its `output_dir` has the checkpoints and the trackers' files.
        output: the student's directory; must not exist.
        metrics: go into the directory as JSON.
        card: returns the model card.
        finish: called with the trained student and its directory, before the directory gets its name.

    Raises:
        StageError: a parameter is not finite.
    """
    wrong = next((name for name, p in trainer.student.named_parameters() if not bool(p.isfinite().all())), None)
    if wrong is not None:
        raise StageError(
            f"Expected finite parameters after training; {wrong} has a NaN or an infinity. The student is not saved; "
            "try a smaller learning rate, more warm-up steps or float32."
        )
    working = Path(trainer.args.output_dir)
    temporary = output.with_name(f"{output.name}.saving")
    saves = trainer.args.should_save
    if saves and temporary.exists():
        shutil.rmtree(temporary)
    trainer.student.config.use_cache = True
    # Every process takes part where a model is spread over them.
    trainer.save_model(str(temporary))
    if saves:
        if finish is not None:
            finish(trainer.student, temporary)
        write_json(temporary / METRICS_NAME, dict(metrics))
        _make_readable(temporary)
        if card is not None:
            write_whole(temporary / "README.md", card())
        if (working / TRACKED).is_dir():
            shutil.copytree(working / TRACKED, temporary / TRACKED)
        temporary.replace(output)
        shutil.rmtree(working, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _make_readable(folder: Path) -> None:
    """Give files of weights the permissions of the other files; safetensors makes them readable by their owner only."""
    mode = (folder / METRICS_NAME).stat().st_mode & 0o777
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)

"""What a training's checkpoints were made from, in a file beside them, so that no training resumes another one's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.student_settings import TrainingSettings
from molsaki.methods import Method, MethodSettings
from molsaki.models.adapters import adapter_facts
from molsaki.models.fingerprint import model_fingerprint
from molsaki.records import hash_text
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.whole_files import read_json, write_json
from molsaki.training.example import Example

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

MADE_FROM = "made_from.json"
"""File name of what the checkpoints of a training were made from."""


def require_same_training(
    working: Path,
    begun: bool,
    method: type[Method[Any]],
    settings: MethodSettings,
    examples: Sequence[Example],
    training: TrainingSettings,
    seed: int,
    student: PreTrainedModel | PeftModel,
    processes: int,
) -> None:
    """Write what the checkpoints are made from, or refuse those that were made from something else.

    Args:
        working: the folder of the checkpoints.
        begun: whether there is a checkpoint.
        method: the distillation method.
        settings: its settings.
        examples: the training examples.
        training: the training settings.
        seed: the student's seed.
        student: the base model.
        processes: the number of processes, by which a step has more examples.

    Raises:
        ArtefactError: the checkpoints belong to another training.
        DataError: the file is cut or malformed.
    """
    made_from = fingerprint(
        method=method.name,
        settings=settings.model_dump(mode="json"),
        training=training.model_dump(mode="json", exclude={"checkpointing"}),  # which changes nothing but rounding
        seed=seed,
        processes=processes,
        student=f"{type(student).__name__} of {student.num_parameters()} parameters",
        weights=model_fingerprint(student.name_or_path, student),
        examples=_hash_examples(examples),
        **{f"adapter {name}": value for name, value in adapter_facts(student).items() if value is not None},
    )
    if begun:
        found = read_json(working / MADE_FROM, "what a training's checkpoints were made from")
        require_same(found, made_from, f"the training that was interrupted in {working}")
    write_json(working / MADE_FROM, made_from)


def _hash_examples(examples: Sequence[Example]) -> str:
    parts = []
    for example in examples:
        parts += [f"{task} {text.completion_token} {text.input_ids}" for task, text in example.sequences.items()]
        if example.teacher is not None:
            parts.append(example.teacher.source)
        if example.agreed is not None:
            weights = example.agreed.log_probs_MK.exp().sum().item()
            parts.append(f"{example.agreed.positions_M.tolist()} {example.agreed.ids_MK.sum().item()} {weights:.6g}")
            if example.agreed.spans is not None:
                spans = example.agreed.spans
                parts.append(f"{spans.positions_WJ.tolist()} {spans.log_probs_W.sum().item():.6g}")
    return hash_text(*parts)

"""TRL's `SFTTrainer` with the attention loss."""

from __future__ import annotations

from typing import Any

from molsaki.errors import InputError
from molsaki.integrations.trainer import AttentionLossMixin

try:
    from trl import SFTTrainer
except ImportError as error:
    raise InputError("Expected the package trl; it cannot be imported. Install it with `pip install trl`.") from error


class AttentionSFTTrainer(AttentionLossMixin, SFTTrainer):  # type: ignore[misc]
    """TRL's `SFTTrainer` with a teacher's attention: L = L_SFT + β·L_att.

    Three lines beside the usual ones: the signals, this class, and the weight.

        signals = molsaki.load_signals("runs/pocket")
        trainer = AttentionSFTTrainer(
            "HuggingFaceTB/SmolLM2-135M-Instruct", SFTConfig("student"), train_dataset=rows, signals=signals, beta=1.0
        )

    Rows are in any form that TRL takes (prompt and completion, messages, text), with a column `id`. The chat template,
    the completion-only loss, LoRA (`peft_config`), accumulation and processes are TRL's. See `AttentionLossMixin` for
    the arguments, and docs/trl.md.

    Raises:
        InputError: as `AttentionLossMixin`; also with `packing` or `padding_free`, which join rows to one sequence.
    """

    def __init__(self, model: Any, args: Any = None, *more: Any, **named: Any) -> None:
        joined = [name for name in ("packing", "eval_packing", "padding_free") if getattr(args, name, None)]
        if joined:
            raise InputError(
                f"Expected one row a sequence; got {' and '.join(joined)}, with which TRL joins rows. Steps and keys "
                "of several texts would mix; leave it out, and let TRL pad (train_sampling_strategy 'group_by_length' "
                "keeps padding short)."
            )
        super().__init__(model, args, *more, **named)

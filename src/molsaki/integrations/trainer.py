"""The attention loss for subclasses of transformers' `Trainer`.

`AttentionLossMixin` leaves the parent's loss as it is and adds β·L_att to it: it runs the parent's own forward pass,
in which the student's stepwise attention is read on the side.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from molsaki.errors import ArtefactError, InputError, StageError
from molsaki.integrations.rows import ID, RowCollator, count_attention
from molsaki.records import RowReport
from molsaki.training.batches import AttentionTargets
from molsaki.training.loop import Signals, StepwiseAttentionLoss

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.getLogger(__name__)

ROUTER_WEIGHTS = "attention_router.safetensors"
"""File of a checkpoint with the router's parameters."""


class AttentionLossMixin(_Base):  # type: ignore[misc]
    """Adds the loss of a teacher's stepwise attention to a subclass of transformers' `Trainer`.

    L = L_parent + β·L_att, with L_att the mean over the optimizer step's rows that have the teacher's attention (Eq. 7
    of the MoLSAKI paper), however they are split into batches and processes. With β = 0 the training is the parent's,
    number for number.

        class MyAttentionTrainer(AttentionLossMixin, MyTrainer): ...

    The training set needs a column `id` with the id of each row in the signals, and `input_ids` after the parent's
    preparation. Sequences must hold that row's question and rationale once, in any template; others take part in the
    parent's loss only, and are counted in `attention_report`. During evaluation, the loss is the parent's, and rows
    need no id.

    The router's parameters are trained by the parent's optimizer in a group of their own, without weight decay and
    without the clipping of the student's gradient, and saved in each checkpoint.

    Args:
        *args: the parent's.
        signals: the teacher's attention, from `molsaki.load_signals`.
        beta: β.
        router_learning_rate: the router's learning rate; the student's by default.
        attention_settings: settings of `StepwiseAttentionLoss`, such as `{"kl_temperature": 1.0}`.
        **more: the parent's.

    Raises:
        InputError: the data set has no column `id`, the tokenizer is missing, an optimizer is given, or training runs
            with DeepSpeed.
        TokenizerError: the bytes of the tokenizer's tokens are not known.
        UnreadableModelError: the student's attention cannot be read.

    Training raises:
        InputError: a row has no id, or no `input_ids`.
        StageError: the attention loss is not a finite number.
    """

    def __init__(
        self,
        *args: Any,
        signals: Signals,
        beta: float = 1.0,
        router_learning_rate: float | None = None,
        attention_settings: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        for name, value in (("beta", beta), ("router_learning_rate", router_learning_rate or 0.0)):
            if not 0 <= value < math.inf:
                raise InputError(f"Expected a finite {name} of at least 0; got {value}. No trainer was made.")
        _refuse_optimizer(more)
        self.beta = beta
        super().__init__(*args, **more)
        if self.is_deepspeed_enabled:
            raise InputError(
                "Expected a training without DeepSpeed, which has an optimizer of its own that would leave the router "
                "out. Use DistributedDataParallel (accelerate launch)."
            )
        if self.processing_class is None:
            raise InputError(
                "Expected the student's tokenizer as `processing_class`; got none. Steps and keys could not be found "
                "in the tokens; pass it to the trainer."
            )
        _require_ids(self.train_dataset)
        # Parents draw random numbers (dropout, order of rows); a router must not change them.
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            loss = StepwiseAttentionLoss(self.model, signals, **(attention_settings or {}))
        self.attention_loss = loss.to(self.args.device)
        self._router_rate = router_learning_rate
        self._rows = RowCollator(self.data_collator, self.processing_class, signals)
        self.data_collator: Any = self._rows
        self._rows_of_step = 0
        self._loss_sum: Tensor | None = None
        self._logged_step: int | None = None
        self._warned = False

    @property
    def attention_report(self) -> RowReport:
        """Counts of the rows of training (`kept`), and of those without all of the attention loss (`notes`, by reason).

        A row counts each time that it is in a batch. Workers of a DataLoader have counts of their own, which are not
        here; a warning says so.
        """
        return self._rows.report

    def train(self, *given: Any, **named: Any) -> Any:
        """The parent's."""
        self._logged_step, self._loss_sum = None, None
        return super().train(*given, **named)

    # ---- data ----

    def _set_signature_columns_if_needed(self) -> None:
        """The parent's columns that stay in a data set, and the id."""
        super()._set_signature_columns_if_needed()
        if ID not in self._signature_columns:
            self._signature_columns.append(ID)

    def get_eval_dataloader(self, *given: Any, **named: Any) -> Any:
        """The parent's, without the teacher's attention."""
        with self._without_attention():
            return super().get_eval_dataloader(*given, **named)

    def get_test_dataloader(self, *given: Any, **named: Any) -> Any:
        """The parent's, without the teacher's attention."""
        with self._without_attention():
            return super().get_test_dataloader(*given, **named)

    @contextmanager
    def _without_attention(self) -> Iterator[None]:
        """The parent takes the collator of a new data loader from this attribute."""
        self.data_collator = self._rows.without_attention
        try:
            yield
        finally:
            self.data_collator = self._rows

    # ---- the loss ----

    def get_batch_samples(self, *given: Any, **named: Any) -> Any:
        """The parent's: the batches of the next optimizer step, whose rows with attention are counted."""
        self.attention_loss.zero_grad()  # the parent empties the gradients of the student alone
        if self._logged_step is None:  # the first step of a training, also of one that is resumed
            self._logged_step = self.state.global_step
        batches, items = super().get_batch_samples(*given, **named)
        rows = count_attention(batches)
        if self.accelerator.num_processes > 1:
            rows = int(self.accelerator.reduce(torch.tensor(rows, device=self.args.device), reduction="sum"))
        self._rows_of_step = rows
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The parent's loss, and β·L_att in training."""
        inputs = dict(inputs)
        targets = inputs.pop("attention", None)
        if targets is None or not model.training or not self.beta:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        reader = _ReadingModel(model, self.attention_loss, targets, max(self._rows_of_step, 1))
        found = super().compute_loss(reader, inputs, return_outputs, num_items_in_batch)
        loss, outputs = found if return_outputs else (found, None)
        self._loss_sum = reader.loss.detach() + (0 if self._loss_sum is None else self._loss_sum)
        # Data parallelism averages over processes; each has its share of the mean over all rows.
        share = self.beta * reader.loss * self.accelerator.num_processes
        if not self._loss_is_of_the_step(num_items_in_batch):
            share = share * self.current_gradient_accumulation_steps  # by which the parent divides the sum
        loss = loss + share.to(loss.dtype)
        return (loss, outputs) if return_outputs else loss

    def _loss_is_of_the_step(self, items: Any) -> bool:
        """Whether the parent's losses of the accumulated batches add up to that of the step, as `Trainer` decides."""
        decided = getattr(self, "loss_is_scaled_for_ga", None)
        if decided is not None:
            return bool(decided)
        return (self.model_accepts_loss_kwargs and items is not None) or self.compute_loss_func is not None

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        """The parent's; the router's gradient is then averaged over processes, as the student's is."""
        loss: Tensor = super().training_step(*given, **named)
        if self.accelerator.num_processes > 1 and self.accelerator.sync_gradients:
            for parameter in self.attention_loss.parameters():
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(own, reduction="mean")
        return loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The parent's, with a group for the router."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        own = [parameter for parameter in self.attention_loss.parameters() if id(parameter) not in known]
        if own:
            rate = self.args.learning_rate if self._router_rate is None else self._router_rate
            optimizer.add_param_group({"params": own, "lr": rate, "weight_decay": 0.0})
        return optimizer

    # ---- logging ----

    def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
        """The parent's, with the mean of L_att over the steps since the last log, and the router's weights."""
        if "loss" in logs and self.beta:
            self._warn_of_rows_left_out()
            logs = {**logs, "attention_loss": self._mean_loss(), **self.attention_loss.method.log_metrics()}
        super().log(logs, *given, **named)

    def _warn_of_rows_left_out(self) -> None:
        """Warn once of rows that train without the attention loss, and at every log while it is that of no row."""
        report = self.attention_report
        counts = "; ".join(f"{reason}: {n}" for reason, n in report.notes.items())
        if report.kept and not self._rows.with_attention:
            logger.warning("None of the first %d rows has an attention loss (%s).", report.kept, counts)
            return
        if self._warned or not report.notes:
            return
        self._warned = True
        logger.warning("Of the first %d rows, some have no attention loss, or not all of it (%s).", report.kept, counts)

    def _mean_loss(self) -> float:
        steps = max(self.state.global_step - (self._logged_step or 0), 1)
        total: Tensor = torch.zeros((), device=self.args.device) if self._loss_sum is None else self._loss_sum
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, reduction="sum")
        self._loss_sum, self._logged_step = None, self.state.global_step
        mean: float = total.item() / steps
        if not math.isfinite(mean):  # of the parent's loss, transformers logs the last finite one
            raise StageError(
                f"Expected a finite attention loss at step {self.state.global_step}; got {mean}. The student's "
                "parameters are useless from here on; try a smaller learning rate, more warm-up steps or float32."
            )
        return mean

    # ---- saving ----

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The parent's, and the router's parameters in a file beside the student."""
        super()._save(output_dir, state_dict)
        state = {name: value.contiguous() for name, value in self.attention_loss.state_dict().items()}
        if state and self.args.should_save:
            safetensors.torch.save_file(state, Path(output_dir or self.args.output_dir) / ROUTER_WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The parent's, and the router's parameters."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_router(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """The parent's, and the router's parameters."""
        super()._load_best_model()
        assert self.state.best_model_checkpoint is not None
        self._load_router(Path(self.state.best_model_checkpoint))

    def _load_router(self, checkpoint: Path) -> None:
        if not self.attention_loss.state_dict():
            return
        path = checkpoint / ROUTER_WEIGHTS
        if not path.is_file():
            raise ArtefactError(
                f"Expected the router's parameters in {path}; the file does not exist. The checkpoint is of another "
                "trainer, or incomplete; resume from another one, or start from the beginning."
            )
        self.attention_loss.load_state_dict(safetensors.torch.load_file(path))


_BY_POSITION = ("input_ids", "attention_mask", "position_ids")
"""The first inputs of every causal language model of transformers."""


class _ReadingModel:
    """A model that is called like the one it holds, and reads its stepwise attention in its first forward pass."""

    def __init__(
        self, model: nn.Module, attention_loss: StepwiseAttentionLoss, targets: AttentionTargets, rows: int
    ) -> None:
        self._model = model
        self._attention_loss = attention_loss
        self._targets = targets
        self._rows = rows
        self._loss: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """That of the model, by which a parent finds the student in a wrapper, and whether its labels are shifted."""
        return type(self._model)

    def __call__(self, *given: Any, **inputs: Any) -> Any:
        if len(given) > len(_BY_POSITION):
            raise InputError(
                f"Expected a trainer that gives the model {', '.join(_BY_POSITION)} by position at most; it gave "
                f"{len(given)} values. No loss was computed; give the others by name in its compute_loss."
            )
        inputs |= dict(zip(_BY_POSITION, given, strict=False))
        if self._loss is not None:
            return self._model(**inputs)
        outputs, self._loss = self._attention_loss(self._model, **inputs, attention=self._targets, examples=self._rows)
        return outputs

    @property
    def loss(self) -> Tensor:
        """This batch's share of L_att."""
        if self._loss is None:
            raise InputError(
                "Expected a trainer whose compute_loss calls the model; it did not. There is no attention to compare; "
                "use the mixin with another trainer."
            )
        return self._loss


def _refuse_optimizer(more: Mapping[str, Any]) -> None:
    optimizer, scheduler = more.get("optimizers") or (None, None)
    if optimizer is not None or scheduler is not None:
        raise InputError(
            "Expected no `optimizers`, which could not know the router's parameters. No trainer was made; give "
            "`optimizer_cls_and_kwargs`, or the optimizer's name in the training arguments."
        )


def _require_ids(dataset: Any) -> None:
    columns = getattr(dataset, "column_names", None)
    if columns is not None and ID not in columns:
        raise InputError(
            f"Expected a training data set with the column `{ID}`, the id of each row in the signals; got the columns "
            f"{columns}. No row would have the teacher's attention; add the column."
        )

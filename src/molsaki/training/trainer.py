"""The Trainer of transformers, with a distillation method's loss.

`DistillationTrainer` changes five things and leaves the rest (schedule, clipping, mixed precision, accumulation,
checkpointing, distribution, trackers) to its parent: the loss is the method's, normalised over the whole optimizer
step so that accumulation changes nothing; the order depends on seed and epoch alone; accumulated batches have about as
many tokens each; each term of the loss is logged; the plain student is saved, or its adapter alone.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import seed_worker

from molsaki.attention import find_model
from molsaki.errors import StageError
from molsaki.methods import Method
from molsaki.methods.router import COLLAPSED, router_collapsed_at
from molsaki.training.arguments import CHECKPOINTING
from molsaki.training.batches import Collator
from molsaki.training.checkpoints import load_parts, save_parts
from molsaki.training.checks import (
    require_supported_arguments,
    require_tasks,
    require_trainable,
    require_whole_optimizer,
    warn_of_rounding,
)
from molsaki.training.example import Example
from molsaki.training.gradients import GradientMeter, require_gradients, why_unmeasured
from molsaki.training.means import TermMeans
from molsaki.training.model import DistillationModel
from molsaki.training.old_arguments import accept_old_arguments
from molsaki.training.order import EvenBatches, ShuffledSteps, example_lengths, plan_passes, tokens_run
from molsaki.training.too_large import says_what_fits

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class DistillationTrainer(Trainer):  # type: ignore[misc]
    r"""Distil a teacher's rationales and attention into a student.

    Example:
        >>> import molsaki
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments
        >>> from molsaki.data.pocket import STUDENT
        >>> from molsaki.methods import METHODS
        >>> student, tokenizer = AutoModelForCausalLM.from_pretrained(STUDENT), AutoTokenizer.from_pretrained(STUDENT)
        >>> problem = molsaki.Problem("a", "Ada has 3 pens and buys 14. How many?", answer="17", label="( 3 + 14 )")
        >>> texts = {"a": molsaki.Text("a", problem.text, "Ada has 3 + 14 pens.", keys="numbers")}
        >>> templates = {
        ...     "predict": molsaki.PromptTemplate.parse("predict: {question}\n{label}"),
        ...     "explain": molsaki.PromptTemplate.parse("explain: {question}\n{rationale}"),
        ... }
        >>> examples, _ = molsaki.encode_examples(tokenizer, [problem], texts, templates, max_length=128)
        >>> method = molsaki.make_method(METHODS["dss"], METHODS["dss"].Settings(), student)
        >>> args = TrainingArguments("student", max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True)
        >>> trainer = molsaki.DistillationTrainer(student, method, args, examples, processing_class=tokenizer)
        >>> trainer.student is student, len(trainer.train_dataset)
        (True, 1)

    Args:
        model: the student, a causal language model, or one with an adapter from peft's `get_peft_model`. Of the latter
            only the adapter is saved, in peft's layout, by name of its base.
        method: the distillation method; see `molsaki.methods`.
        args: any `TrainingArguments` but those of another loss (`label_smoothing_factor`, `neftune_noise_alpha`); a
            batch of n examples holds n sequences for each of the method's tasks. The accumulated batches of one process
            have n examples on average, few long ones or many short ones.
        train_dataset: encoded examples, from `molsaki.encode_examples`.
        processing_class: the student's tokenizer; it is saved with the student.
        eval_dataset: encoded examples of a validation split, or None.
        validate: called with the student, without peft's wrapper, at each evaluation; its metrics are logged and can
            select the best checkpoint (`metric_for_best_model="eval_accuracy"`). It must not use test problems.
        **more: passed on to `Trainer`.

    Raises:
        InputError: an argument would change the loss, there are several GPUs in one process, nothing of the student can
            be trained, or an optimizer was given without the method's own parameters.
    """

    @accept_old_arguments
    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        method: Method[Any],
        args: TrainingArguments,
        train_dataset: Sequence[Example] | None,
        processing_class: PreTrainedTokenizerBase,
        eval_dataset: Sequence[Example] | None = None,
        validate: Callable[[PreTrainedModel], Mapping[str, float]] | None = None,
        **more: Any,
    ) -> None:
        require_supported_arguments(args, more)
        require_trainable(model)
        warn_of_rounding(model)
        args = copy.copy(args)  # the caller's stay as they are
        args.remove_unused_columns = False
        args.label_names = ["batch"]
        args.prediction_loss_only = True
        # The filter would replace a NaN by the last mean, and would read every batch's loss from the device.
        args.logging_nan_inf_filter = False
        self._validate = validate
        self._means = TermMeans([term.name for term in method.terms])
        self._eval_means = TermMeans(self._means.names)
        self._first_step = 0
        self._meter: GradientMeter | None = None
        self._step_batches: tuple[list[Any], Tensor | None] | None = None
        examples = train_dataset or ()
        step_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        require_tasks(examples, method.terms)
        self._order = ShuffledSteps(example_lengths(examples), step_size, args.seed)
        # Several processes share out batches of one size.
        even = args.gradient_accumulation_steps > 1 and args.world_size == 1 and not args.dataloader_drop_last
        self._batches = (
            EvenBatches(self._order, args.train_batch_size, tokens_run(examples, method.terms.tasks))
            if even
            else BatchSampler(self._order, args.train_batch_size, args.dataloader_drop_last)
        )
        self.passes = plan_passes(examples, method.terms.tasks, list(self._batches))
        super().__init__(
            model=DistillationModel(model, method),
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=Collator(processing_class, method.terms, self.passes.separate),
            processing_class=processing_class,
            **more,
        )
        # The loss is normalised by this class over the whole step; the parent must not divide it again.
        self.model_accepts_loss_kwargs = True
        require_gradients(self, method.terms)
        require_whole_optimizer(method, self.optimizer)

    @property
    def student(self) -> PreTrainedModel | PeftModel:
        """The student as it was given, unwrapped."""
        return self._distillation_model().student

    @property
    def method(self) -> Method[Any]:
        """The method with its own parameters, unwrapped."""
        return self._distillation_model().method

    def _distillation_model(self) -> DistillationModel:
        unwrapped = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        assert isinstance(unwrapped, DistillationModel)
        return unwrapped

    def _get_train_sampler(self, train_dataset: Dataset[Example] | None = None) -> Sampler[int]:  # noqa: ARG002
        """Random steps, in an order that depends on seed and epoch alone."""
        return self._order

    def get_train_dataloader(self) -> DataLoader[Example]:
        """The parent's, or one whose accumulated batches have about as many tokens each."""
        if self.train_dataset is None or not isinstance(self._batches, EvenBatches):
            parents: DataLoader[Example] = super().get_train_dataloader()
            return parents
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            # The next two are not arguments in all versions of transformers.
            multiprocessing_context=getattr(self.args, "dataloader_multiprocessing_context", None),
            in_order=getattr(self.args, "dataloader_in_order", True),
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            ),
        )
        prepared: DataLoader[Example] = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The parent's, with parameter groups of their own for the method's parameters with a rate of their own."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        for prefix, rate in self.method.learning_rates().items():
            own = {id(p) for name, p in self.method.named_parameters() if name.startswith(prefix)}
            for group in list(optimizer.param_groups):
                moved = [p for p in group["params"] if id(p) in own]
                if moved:
                    group["params"] = [p for p in group["params"] if id(p) not in own]
                    optimizer.add_param_group({**group, "params": moved, "lr": rate})
        return optimizer

    # ---- the loss ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """The number of items of each term in one optimizer step, over all processes."""
        if not batch_samples:
            return None
        counts = torch.stack([inputs["batch"].counts for inputs in batch_samples]).sum(0).to(device)
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.gather(counts[None]).sum(0)
        return counts

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The method's loss; see `DistillationModel.forward`."""
        progress = self.state.global_step / max(self.state.max_steps, 1)
        outputs = model(**inputs, totals=num_items_in_batch, progress=progress)
        loss = outputs["loss"]
        if not model.training:
            processes = 1 if num_items_in_batch is None else self.accelerator.num_processes
            counts = inputs["batch"].counts if num_items_in_batch is None else num_items_in_batch
            self._eval_means.add(outputs, counts, processes)
        else:
            if self._means.empty:
                self._first_step = self.state.global_step
            self._means.add(outputs)
        if num_items_in_batch is not None:
            # Each process has its share of the step's mean, and data parallelism averages over processes.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    # ---- the gradient of each term ----

    def get_batch_samples(self, *given: Any, **named: Any) -> Any:
        """The parent's: the batches of the next optimizer step, and the counts of their items."""
        self._step_batches = super().get_batch_samples(*given, **named)
        return self._step_batches

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        """The parent's; before some steps, the gradient of each term over the whole step is measured.

        Raises:
            StageError: memory is too small for the batch; the message says what would fit.
        """
        checkpointing = bool(getattr(self.args, CHECKPOINTING))
        with says_what_fits(self.student, inputs["batch"], checkpointing):
            if self._step_batches is not None:
                (batches, totals), self._step_batches = self._step_batches, None
                if why_unmeasured(self) is None and totals is not None:
                    self._before_step(model, [self._prepare_inputs(batch) for batch in batches], totals)
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _before_step(self, model: torch.nn.Module, batches: list[dict[str, Any]], totals: Tensor) -> None:
        if self._meter is None:
            self._meter = GradientMeter(self._distillation_model())
        model.train()
        log_every = 0 if self.args.logging_strategy == "no" else int(self.state.logging_steps)
        self._meter.before_step(batches, totals, self.state.global_step + 1, self.state.max_steps, log_every)

    # ---- logging ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss with its terms and their shares.

        Raises:
            StageError: the loss is not a finite number.
        """
        if "loss" in logs:
            steps = self.state.global_step - self._first_step
            parts = self._means.take(steps=steps, gather=self._sum_over_processes())
            logs = {
                **logs,
                **{name: value for name, value in parts.items() if name != "loss"},
                **({} if self._meter is None else self._meter.take()),
                **self.method.log_metrics(),
            }
            self._warn_of_collapse(logs)
        super().log(logs, start_time)
        if "loss" in logs and not math.isfinite(logs["loss"]):
            raise StageError(
                f"Expected a finite loss at step {self.state.global_step}; got {logs['loss']}. The student's "
                "parameters are useless from here on, and nothing is saved; try a smaller learning rate, more warm-up "
                "steps or float32."
            )

    def _warn_of_collapse(self, logs: Mapping[str, float]) -> None:
        """Warn once of a router that has collapsed onto one layer."""
        line = {**logs, "step": self.state.global_step}
        if router_collapsed_at([line]) is None or router_collapsed_at(self.state.log_history) is not None:
            return
        logger.warning(
            "From step %d on, the router gives one layer more than %g of the weight: layers are not mixed any more. "
            "Set a smaller router_learning_rate, a larger router_temperature, or another gate.",
            self.state.global_step,
            COLLAPSED,
        )

    def _sum_over_processes(self) -> Callable[[Tensor], Tensor] | None:
        if self.accelerator.num_processes == 1:
            return None
        return lambda sums: self.accelerator.reduce(sums, reduction="sum")

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        """The parent's, with the losses as means over all items of the split, and the metrics of `validate`.

        A term without an item in the split has no loss; problems without rationales have none of those. Of several
        processes, those without an item in the last batch repeat one, which then counts twice.
        """
        self._eval_means = TermMeans(self._means.names)
        output = super().evaluation_loop(*given, **named)
        prefix = named.get("metric_key_prefix", "eval")
        output.metrics.pop(f"{prefix}_loss", None)
        output.metrics.update(self._eval_means.take(f"{prefix}_", gather=self._sum_over_processes()))
        if self._validate is not None and prefix == "eval":
            measured = self._validate(find_model(self.student))
            output.metrics.update({f"{prefix}_{name}": float(value) for name, value in measured.items()})
        return output

    # ---- saving ----

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the plain student, or its adapter, its tokenizer, and the method's own parameters beside them."""
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        whole = self._distillation_model()
        if state_dict is None:
            state_dict = whole.state_dict()
        save_parts(folder, whole, state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load what `_save` wrote; the parent loads sharded checkpoints."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_parts(Path(resume_from_checkpoint), self._distillation_model())

    def _load_best_model(self) -> None:
        """Load the checkpoint with the best validation, wherever the directory was when it was written."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
            return
        assert self.state.best_model_checkpoint is not None
        best = Path(self.args.output_dir or "") / Path(self.state.best_model_checkpoint).name
        self._load_from_checkpoint(str(best))

    def take_over(self, checkpoint: Path) -> None:
        """Load the student of a finished training's last step; the parent would train one step more."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()

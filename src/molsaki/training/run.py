"""Training one student, from its base model to a plain model directory."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PrinterCallback, TrainerCallback, set_seed

from molsaki.attention import find_model
from molsaki.config.recipe import TrainingSettings
from molsaki.distributed import on_main_process
from molsaki.encoding.encode import NO_CHARACTERS
from molsaki.errors import ArtefactError, InputError, StageError
from molsaki.methods import Method, MethodSettings, StudentShape, Task, Terms
from molsaki.methods.layers import router_collapsed_at
from molsaki.models.adapters import adapter_facts, trained_parameters
from molsaki.models.memory import peak_bytes
from molsaki.models.shapes import shapes_of
from molsaki.records import hash_text
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.whole_files import read_json, write_json, write_whole
from molsaki.training.arguments import training_arguments
from molsaki.training.batch_plan import BatchPlan, plan_batch, settle_plan
from molsaki.training.checkpoints import last_checkpoint
from molsaki.training.examples import TOO_LONG, Example
from molsaki.training.interrupt import StopOnInterrupt
from molsaki.training.too_large import outline_student
from molsaki.training.trainer import DistillationTrainer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

METRICS = "metrics.json"
MADE_FROM = "made_from.json"
"""File name of what the checkpoints of a training were made from."""
TRACKED = "runs"
"""The folder that trackers write to, beside the checkpoints and then in the student's directory."""


def train_student(
    student: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    method: type[Method[Any]],
    settings: MethodSettings,
    examples: Sequence[Example],
    training: TrainingSettings,
    *,
    seed: int,
    output: Path,
    validation: Sequence[Example] | None = None,
    validate: Callable[[PreTrainedModel], Mapping[str, float]] | None = None,
    max_new_tokens: int = 64,
    card: Callable[[], str] | None = None,
    finish: Callable[[PreTrainedModel | PeftModel, Path], None] | None = None,
    notes: Mapping[str, int] | None = None,
    compared_tokens: Mapping[str, Mapping[str, int]] | None = None,
    teacher_layers: Sequence[int] = (),
    callbacks: Sequence[TrainerCallback] = (),
    show_progress: bool = True,
    memory: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Train one student and write it to `output`, completely or not at all.

    Checkpoints are kept in a folder beside it while training runs. If there are some, training resumes from the newest
    complete one, on the same trajectory as without an interruption.

    Args:
        student: the base model, or one with an adapter of peft; it is changed.
        tokenizer: its tokenizer.
        method: the distillation method.
        settings: the method's settings.
        examples: the training examples; must not be empty.
        training: steps, rates and the rest.
        seed: of the order of examples, dropout and the method's own parameters.
        output: the student's directory; must not exist.
        validation: examples for the validation losses.
        validate: measures the student on the validation split; see `DistillationTrainer`.
        max_new_tokens: goes into the saved generation settings.
        card: returns the model card.
        finish: called with the trained student and its directory, before the directory gets its name.
        notes: counts of examples with reasons, for the metrics.
        compared_tokens: how many tokens of the rationales are compared with the teacher's, by kind, for the metrics.
        teacher_layers: the numbers of the layers in the examples' attention, if the teacher is a hybrid that has others
            too; empty for all layers, or for heads.
        callbacks: of the Trainer.
        show_progress: draw a progress bar.
        memory: bytes that the training may take, by which it is chosen how a batch is computed; None if unknown.
        say: called with a line that says what was chosen, if it is not one part without checkpointing.

    Returns:
        The metrics: steps, the number of parameters and of those that are trained, seconds of this session, the peak
        memory of this process (on a GPU, of its tensors), examples, training tokens, compared tokens, the parts of a
        batch and whether its layers are checkpointed, forward passes a part and the share of padding in them, the
        checkpoint that it resumed from, the best one, the terms' weights, the step at which the router collapsed, and
        the Trainer's log (null for a number that is not finite).

    Raises:
        InputError: there is no example, or no validation to select the best student by, or the examples are of
            another vocabulary.
        ArtefactError: the output exists, or the checkpoints beside it belong to another training.
        StageError: the loss or a parameter is not finite.
        KeyboardInterrupt: training was interrupted; a checkpoint was saved.
    """
    _require_inputs(method, method.terms_of(settings), examples, training, output, validation, validate, notes or {})
    _require_vocabulary(student, [*examples, *(validation or ())])
    set_seed(seed)
    stored = next((e.teacher.load().shape[0] for e in examples if e.teacher is not None), 0)
    made = make_method(method, settings, student, teacher_layers or stored)
    _settle_tokens(student, tokenizer, max_new_tokens, _learned_ends(examples))
    if training.compile:
        compile_layers(student)
    working = output.with_name(f"{output.name}.training")
    checkpoint = last_checkpoint(working)
    plan = _plan(working, checkpoint is not None, student, training, _lengths(examples, made.terms.tasks), memory)
    if plan.parts > 1 or plan.checkpointing:
        say(plan.describe(training.batch_size))
    stop = StopOnInterrupt()
    trainer = DistillationTrainer(
        student,
        made,
        training_arguments(training, working, seed, show_progress, validation is not None, plan),
        examples,
        tokenizer,
        eval_dataset=validation,
        validate=validate,
        callbacks=[stop, *callbacks],
    )
    # The console shows progress; the parent's printing of every line of the log would break it up.
    trainer.remove_callback(PrinterCallback)
    if trainer.args.should_save:
        _require_same_training(working, checkpoint, method, settings, examples, training, seed, student)
    seconds = 0.0
    if checkpoint is not None and checkpoint.steps >= training.steps:
        trainer.take_over(checkpoint.folder)
    else:
        with stop.listening():
            result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.folder))
        seconds = round(result.metrics.get("train_runtime", 0.0), 2)
        if stop.interrupted and trainer.state.global_step < training.steps:
            raise KeyboardInterrupt
    best = trainer.state.best_model_checkpoint
    trained, parameters = trained_parameters(student)
    metrics = {
        "steps": trainer.state.global_step,
        "parameters": parameters,
        "trained_parameters": trained,
        "seconds": seconds,
        "peak_memory_bytes": _peak_memory(student.device),
        "examples": len(examples),
        "tokens": _tokens(examples, trainer, training),
        "parts": plan.parts,
        "checkpointing": plan.checkpointing,
        "notes": dict(notes or {}),
        "compared_tokens": dict(compared_tokens or {}),
        "passes": len(trainer.method.terms.tasks) if trainer.passes.separate else 1,
        "padding": round(trainer.passes.padding, 4),
        "resumed_from": None if checkpoint is None else checkpoint.folder.name,
        "best_checkpoint": best and Path(best).name,
        "weights": trainer.method.weights(),
        "router_collapsed_at": router_collapsed_at(trainer.state.log_history),
        "history": [_plain(entry) for entry in trainer.state.log_history],
    }
    _save_whole(trainer, working, output, metrics, card, finish)
    return metrics


def _lengths(examples: Sequence[Example], tasks: Sequence[Task]) -> list[int]:
    """The tokens of each example in all tasks of a method."""
    return [sum(len(e.sequences[task].input_ids) for task in tasks if task in e.sequences) for e in examples]


def _plan(
    working: Path,
    begun: bool,
    student: PreTrainedModel | PeftModel,
    training: TrainingSettings,
    lengths: Sequence[int],
    memory: int | None,
) -> BatchPlan:
    """How the batches of a training are computed, the same in every session and every process."""

    def choose() -> BatchPlan:
        can = training.checkpointing is True or find_model(student).supports_gradient_checkpointing
        settings = training if can else training.model_copy(update={"checkpointing": False})
        on_gpu = student.device.type != "cpu"
        plan = plan_batch(outline_student(student), settings, lengths, on_gpu=on_gpu, memory=memory)
        return replace(plan, setting=training.checkpointing)

    return BatchPlan(**on_main_process(lambda: asdict(settle_plan(working, training.checkpointing, begun, choose))))


def _tokens(examples: Sequence[Example], trainer: DistillationTrainer, training: TrainingSettings) -> int:
    """The tokens of all training steps, without padding: the mean of an example times the number of examples."""
    lengths = _lengths(examples, trainer.method.terms.tasks)
    shown: int = training.steps * training.batch_size * training.accumulation * trainer.args.world_size
    return round(sum(lengths) / len(lengths) * shown)


def _peak_memory(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_bytes()


def make_method(
    method: type[Method[Any]],
    settings: MethodSettings,
    student: PreTrainedModel | PeftModel,
    teacher_layers: int | Sequence[int] = 0,
) -> Method[Any]:
    """Create a method for a student.

    Example:
        >>> import molsaki
        >>> from transformers import AutoModelForCausalLM
        >>> from molsaki.data.pocket import STUDENT
        >>> from molsaki.methods import METHODS
        >>> student, method = AutoModelForCausalLM.from_pretrained(STUDENT), METHODS["dss"]
        >>> made = molsaki.make_method(method, method.Settings(alpha=0.3), student)
        >>> [(term.name, term.weight) for term in made.terms]
        [('label', 0.3), ('rationale', 0.7)]

    Args:
        method: the method.
        settings: its settings.
        student: the student.
        teacher_layers: number of layers (or heads) in the teacher's stored attention, for a method that needs it; or
            the numbers of these layers, if they are some of a hybrid teacher's.

    Raises:
        InputError: the settings name layers that do not exist.
        UnreadableModelError: the method reads attention, and the student's cannot be read.
    """
    if method.terms_of(settings).attention is None:
        return method(settings, StudentShape(()))
    shapes = shapes_of(student)
    numbers = () if isinstance(teacher_layers, int) else tuple(teacher_layers)
    count = teacher_layers if isinstance(teacher_layers, int) else len(numbers)
    return method(settings, StudentShape(shapes.values, count, shapes.heads, shapes.layers.numbers, numbers))


def compile_layers(student: PreTrainedModel | PeftModel) -> None:
    """Compile every layer in place, for batches of any length; parameter names stay the plain student's.

    Layer by layer, since the reading of attention runs between compiled code, and equal layers are compiled once.

    Raises:
        InputError: the student's layers are not where transformers' models have them.
    """
    count = student.config.get_text_config(decoder=True).num_hidden_layers
    lists = [m for m in student.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not lists:
        raise InputError(
            f"Expected a student whose {count} layers lie in one list to compile them; {type(student).__name__} has "
            "none. Nothing was trained; set training.compile to false."
        )
    for layer in lists[0]:
        layer.compile(dynamic=True)


def value_sizes(student: PreTrainedModel | PeftModel) -> tuple[int, ...]:
    """Width of the value states of every layer, read off a forward pass over two tokens.

    Raises:
        UnreadableModelError: the student's attention cannot be read.
    """
    return shapes_of(student).values


def _require_inputs(
    method: type[Method[Any]],
    terms: Terms,
    examples: Sequence[Example],
    training: TrainingSettings,
    output: Path,
    validation: Sequence[Example] | None,
    validate: Callable[[PreTrainedModel], Mapping[str, float]] | None,
    notes: Mapping[str, int],
) -> None:
    counted = "; ".join(f"{reason}: {n}" for reason, n in notes.items() if n)
    counted = f" ({counted})" if counted else ""
    if not examples:
        way_out = (
            "raise training.max_length, or choose a student with a longer context."
            if notes.get(TOO_LONG)
            else "look at the counts of `molsaki generate` for why rows were left out."
        )
        raise InputError(
            f"Expected at least one training example; got none{counted}. There is nothing to learn; {way_out}"
        )
    if terms.attention is not None and all(example.teacher is None for example in examples):
        raise InputError(
            f"Expected the teacher's attention for {method.name}; no example has any{counted}. It would be trained as "
            "if it did not read attention; run `molsaki attend`, or look at its counts."
        )
    if terms.next_tokens is not None and all(example.agreed is None for example in examples):
        raise InputError(
            f"Expected the teacher's next tokens for {method.name} that both tokenizers have; no example has any"
            f"{counted}. It would be trained as if it did not read them; run `molsaki attend`, or look at the counts."
        )
    if training.select == "best" and (not validation or (training.best_by == "accuracy" and validate is None)):
        raise InputError(
            f"Expected a validation split to choose the best student by its {training.best_by}; got none that is "
            "usable. Name one in the recipe, or use `select: last`."
        )
    if training.select == "best" and training.best_by == "loss" and "predict" not in terms.tasks:
        raise InputError(
            f"Expected a validation loss to choose the best student by; {method.name} has none, since the validation "
            "split has no rationales. Nothing was trained; use `best_by: accuracy`, or `select: last`."
        )
    if output.exists():
        raise ArtefactError(
            f"Expected no student at {output} yet; there is something. It is left as it is and nothing was trained; "
            "choose another place, or move it away."
        )


def _require_vocabulary(student: PreTrainedModel | PeftModel, examples: Sequence[Example]) -> None:
    known = student.get_input_embeddings().num_embeddings
    largest = max(max(text.input_ids) for example in examples for text in example.sequences.values())
    if largest >= known:
        raise InputError(
            f"Expected token ids below {known}, the student's vocabulary; the examples have one of {largest}. They "
            "were made with another model's tokenizer; load the student's own, or resize its embeddings."
        )


def _learned_ends(examples: Sequence[Example]) -> set[int]:
    """The tokens that end the answers: the tokenizer's end-of-text token, or the end of a chat's turn."""
    texts = (text for example in examples for text in example.sequences.values())
    return {text.input_ids[-1] for text in texts if not text.cut_tokens and text.offsets[-1] == NO_CHARACTERS}


def _settle_tokens(
    student: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    learned: set[int],
) -> None:
    """Give the student the tokenizer's special tokens, and settings that decode greedily and stop."""
    ends = tokenizer.eos_token_id
    tokens: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends,
    }
    model = find_model(student)
    config: Any = model.config.get_text_config()
    for name, token in tokens.items():
        setattr(config, name, token)
    if more := sorted(learned - {ends}):
        tokens["eos_token_id"] = [ends, *more]
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, **tokens)


def _require_same_training(
    working: Path,
    checkpoint: Any,
    method: type[Method[Any]],
    settings: MethodSettings,
    examples: Sequence[Example],
    training: TrainingSettings,
    seed: int,
    student: PreTrainedModel | PeftModel,
) -> None:
    """Say what the checkpoints are made from, or refuse those that were made from something else."""
    made_from = fingerprint(
        method=method.name,
        settings=settings.model_dump(mode="json"),
        training=training.model_dump(mode="json", exclude={"checkpointing"}),  # which changes nothing but rounding
        seed=seed,
        student=f"{type(student).__name__} of {student.num_parameters()} parameters",
        examples=_hash_examples(examples),
        **{f"adapter {name}": value for name, value in adapter_facts(student).items() if value is not None},
    )
    if checkpoint is not None:
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
            parts.append(f"{example.agreed.places_M.tolist()} {example.agreed.ids_MK.sum().item()} {weights:.6g}")
            if example.agreed.spans is not None:
                spans = example.agreed.spans
                parts.append(f"{spans.places_WJ.tolist()} {spans.log_probs_W.sum().item():.6g}")
    return hash_text(*parts)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }


def _make_readable(folder: Path) -> None:
    """Give files of weights the permissions of the other files; safetensors makes them readable by their owner only."""
    mode = (folder / METRICS).stat().st_mode & 0o777
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)


def _save_whole(
    trainer: DistillationTrainer,
    working: Path,
    output: Path,
    metrics: Mapping[str, Any],
    card: Callable[[], str] | None,
    finish: Callable[[PreTrainedModel | PeftModel, Path], None] | None,
) -> None:
    """Write the student under a temporary name, then give it its own and remove its checkpoints."""
    wrong = next((name for name, p in trainer.student.named_parameters() if not bool(p.isfinite().all())), None)
    if wrong is not None:
        raise StageError(
            f"Expected finite parameters after training; {wrong} has a NaN or an infinity. The student is not saved; "
            "try a smaller learning rate, more warm-up steps or float32."
        )
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
        write_json(temporary / METRICS, dict(metrics))
        _make_readable(temporary)
        if card is not None:
            write_whole(temporary / "README.md", card())
        if (working / TRACKED).is_dir():
            shutil.copytree(working / TRACKED, temporary / TRACKED)
        temporary.replace(output)
        shutil.rmtree(working, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()

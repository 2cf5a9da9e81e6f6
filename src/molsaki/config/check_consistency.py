"""Settings of a recipe that contradict each other, or that would have no effect.

Each check returns the problems that it finds, one line each: the key, what was expected and what was found.
"""

from __future__ import annotations

from molsaki.config.data_settings import TRAIN, VALIDATION
from molsaki.config.model_spec import ModelSpec, is_gguf
from molsaki.config.recipe import Recipe
from molsaki.data import EXPORTED, SOURCES, is_generated
from molsaki.encoding.prompts import CHATS
from molsaki.methods import METHODS


def check_consistency(recipe: Recipe) -> list[str]:
    """Find settings that contradict each other. All names must be valid."""
    return [
        *_check_labels_and_seeds(recipe),
        *_check_test_sets(recipe),
        *_check_draws(recipe),
        *_check_validation(recipe),
        *_check_student(recipe),
        *_check_quantised(recipe),
        *_check_chat_settings(recipe),
        *_check_mixed_layers(recipe),
        *_check_writer(recipe),
        *_check_rationales(recipe),
        *_check_signals(recipe),
        *_check_reader(recipe),
        *_check_oracles(recipe),
    ]


def _check_labels_and_seeds(recipe: Recipe) -> list[str]:
    labels = [method.label for method in recipe.methods]
    problems = [
        f"methods.{i}.label: expected unique labels; got {label!r} more than once"
        for i, label in enumerate(labels)
        if labels.count(label) > 1 and labels.index(label) == i
    ]
    if recipe.baseline is not None and recipe.baseline not in labels:
        problems.append(f"baseline: expected one of the methods' labels {labels}; got {recipe.baseline!r}")
    if len(set(recipe.seeds)) < len(recipe.seeds):
        problems.append(f"seeds: expected different seeds; got {list(recipe.seeds)}")
    return problems


def _check_test_sets(recipe: Recipe) -> list[str]:
    problems = [
        f"data.tests.{name}: expected another name; {name!r} is the name of the {name} set"
        for name in (TRAIN, VALIDATION)
        if name in recipe.data.tests
    ]
    rows = recipe.evaluation.rows
    return problems + [
        f"evaluation.rows.{name}: expected one of the test sets {list(recipe.data.tests)}"
        for name in (rows if isinstance(rows, dict) else ())
        if name not in recipe.data.tests
    ]


def _check_validation(recipe: Recipe) -> list[str]:
    if recipe.has_validation:
        return []
    wanted = {"evaluation.on": recipe.evaluation.on == "validation", "training.evaluate_every": _evaluates(recipe)}
    return [
        f"{key}: expected validation problems; got neither data.validation nor data.validation_rows"
        for key, is_wanted in wanted.items()
        if is_wanted
    ]


def _evaluates(recipe: Recipe) -> bool:
    return any(recipe.training_of(spec).evaluate_every for spec in recipe.methods)


def _check_student(recipe: Recipe) -> list[str]:
    problems = []
    if recipe.student.device_map is not None:
        problems.append(
            "student.device_map: expected none, since a student trains on one device or, with `accelerate launch`, on "
            f"several; got {recipe.student.device_map!r}"
        )
    if recipe.student.quantize is not None and recipe.student.lora is None:
        problems.append(
            f"student.quantize: expected lora with {recipe.student.quantize}, since quantised weights have no "
            "gradient; add `lora: {}` to the student"
        )
    if recipe.student.lora is None and recipe.student.dtype in ("bfloat16", "float16"):
        problems.append(
            f"student.dtype: expected float32 without lora, since small changes of {recipe.student.dtype} weights are "
            "rounded away; use `training.precision: bf16`, which keeps the weights in float32"
        )
    return problems


def _check_writer(recipe: Recipe) -> list[str]:
    if recipe.rationales.source == "teacher" and recipe.teacher.writer is None:
        return ["teacher.writer: expected a model, since rationales.source is teacher; got none"]
    return []


def _check_rationales(recipe: Recipe) -> list[str]:
    """Find settings of a teacher's rationales where no teacher writes any."""
    settings = recipe.rationales
    if settings.source == "teacher":
        return []
    unused: dict[str, object] = {
        "second_pass": settings.second_pass,
        "samples": settings.samples > 1 and settings.samples,
        "temperature": settings.temperature,
        "keep": settings.source == "dataset" and settings.keep == "all" and settings.keep,
        # Exported signals belong to their rationales as they are.
        "learn": recipe.data.train.source == EXPORTED and settings.learn != "summary" and settings.learn,
    }
    problems = [
        f"rationales.{name}: expected none with rationales.source {settings.source}, where it has no effect; got "
        f"{value}. Leave it out"
        for name, value in unused.items()
        if value
    ]
    if recipe.keys == "keywords" and settings.keywords == "teacher":
        problems.append(
            f"rationales.keywords: expected question-words or dataset, since rationales.source is {settings.source} "
            "and no teacher is asked for key words; got teacher, the default"
        )
    return problems


def _check_reader(recipe: Recipe) -> list[str]:
    """Find a method that compares what no model is read for, and an original that is compared with nothing."""
    methods = [spec.terms for spec in recipe.methods]
    problems = []
    if recipe.teacher.original is not None and not any(terms.attention for terms in methods):
        problems.append("teacher.original: expected none, since no method compares attention; leave it out")
    if recipe.teacher.attending is not None or recipe.signals is not None:
        return problems
    if any(terms.attention for terms in methods):
        problems.append("teacher.reader: expected a model, since a method compares attention; got none")
    elif any(terms.next_tokens for terms in methods):
        problems.append("teacher.reader: expected a model, since a method compares next tokens; got none")
    return problems


def _check_oracles(recipe: Recipe) -> list[str]:
    """Find methods with the target `oracle` on problems that do not name the sources of their numbers."""
    source = SOURCES.get(recipe.data.train.source)
    if source is not None and source.knows_sources:
        return []
    methods = [spec.terms for spec in recipe.methods]
    return [
        f"methods.{i}.target: expected no oracle, since the problems of {recipe.data.train.source} do not say which "
        "numbers their solutions use; those of pocket-math do"
        for i, terms in enumerate(methods)
        if terms.attention is not None and terms.attention.target == "oracle"
    ]


def _check_draws(recipe: Recipe) -> list[str]:
    """Find settings of draws that would have no effect, or make draws that are not independent."""
    data = recipe.data
    independent, generated = data.draws == "independent", is_generated(data.train.source)
    problems = []
    if data.rows is not None and (generated or not independent):
        way_out = "set data.train.limit" if generated else "set data.draws to independent"
        problems.append(
            f"data.rows: expected none here, where it has no effect; got {data.rows}. Leave it out, or {way_out}"
        )
    if independent and not generated and data.rows is None:
        problems.append("data.rows: expected the number of training problems that each seed draws; got none")
    if independent and generated and data.validation_rows:
        problems.append(
            f"data.validation_rows: expected none, since each seed draws its own problems; got {data.validation_rows}. "
            "Name a set in data.validation"
        )
    problems += [
        f"{key}.split: expected a split without a seed, since each seed draws its own problems; got {spec.split!r}"
        for key, spec in data.specs.items()
        if independent and is_generated(spec.source) and ":" in (spec.split or "")
    ]
    return problems


def _check_signals(recipe: Recipe) -> list[str]:
    """Find a reader beside exported signals, and problems of signals that the recipe does not name."""
    named = {"teacher.reader": recipe.teacher.reader, "teacher.original": recipe.teacher.original}
    beside = [(key, model) for key, model in named.items() if model is not None]
    if recipe.signals is not None and beside:
        return [
            f"{key}: expected none, since `signals` takes its place; got {model.name!r}. Leave one of them out"
            for key, model in beside
        ]
    return [
        f"{key}.path: expected the folder of exported signals, here or as the recipe's `signals`; got none"
        for key, spec in recipe.data.specs.items()
        if spec.source == EXPORTED and spec.path is None and recipe.signals is None
    ]


def _check_quantised(recipe: Recipe) -> list[str]:
    """Find GGUF files that are to be trained or quantised once more, and settings of an original without effect."""
    problems, original = [], recipe.teacher.original
    if original is not None and original.chat_template_kwargs:
        problems.append(
            "teacher.original.chat_template_kwargs: expected none, since it is read in the reader's prompt; got "
            f"{original.chat_template_kwargs}"
        )
    if is_gguf(recipe.student.name):
        problems.append(
            f"student.name: expected a model with its weights in safetensors; got the GGUF file {recipe.student.name}, "
            "which is read and not trained. Name the model that it was made from"
        )
    return problems + [
        f"{key}.quantize: expected none for a GGUF file, whose weights are dequantised; got {model.quantize}"
        for key, model in recipe.teacher.models.items()
        if isinstance(model, ModelSpec) and is_gguf(model.name) and model.quantize is not None
    ]


def _check_chat_settings(recipe: Recipe) -> list[str]:
    """Find settings of chat templates that no prompt is rendered with."""
    asked = {
        "teacher.writer": (recipe.teacher.writer, ("teacher", "second_pass", "keywords")),
        "teacher.reader": (recipe.teacher.reader, ("teacher",)),
        "student": (recipe.student, tuple(CHATS)),
    }
    return [
        f"{key}.chat_template_kwargs: expected a chat as one of the prompts {', '.join(names)}, since no text is "
        f"rendered with a chat template; got {model.chat_template_kwargs} and texts"
        for key, (model, names) in asked.items()
        if isinstance(model, ModelSpec)
        and model.chat_template_kwargs
        and not any(recipe.prompts.template(name).is_chat for name in names)
    ]


def _check_mixed_layers(recipe: Recipe) -> list[str]:
    """Find methods that need another mixture of the teacher's layers than the stored one, or all layers."""
    problems: list[str] = []
    if recipe.attention.layers != "mixed":
        return problems
    stored = {
        "teacher_weights": "change",
        "teacher_temperature": recipe.attention.temperature,
        "layer_change": recipe.attention.layer_change,
        # G is computed from sums over a step's tokens and from all keys.
        "step_pool": "sum",
        "keys": "all",
        "steps": "all",
        # G would be that of the control.
        "target": "teacher",
        # The heads of a layer are averaged before layers are mixed.
        "heads": "mean",
    }
    for i, spec in enumerate(recipe.methods):
        method = METHODS[spec.name]
        settings = method.Settings(**spec.settings)
        if method.terms_of(settings).attention is None:
            continue
        if "teacher_weights" not in method.Settings.model_fields:
            problems.append(
                f"methods.{i}.name: expected a method that mixes the teacher's layers, since attention.layers is "
                f"mixed; got {spec.name!r}. Store all layers"
            )
            continue
        columns = {"columns": "all"} if getattr(settings, "columns", "") == "all-but-keys" else {}
        for name, value in (stored | columns).items():
            requested = getattr(settings, name, value)
            if requested != value:
                problems.append(
                    f"methods.{i}.{name}: expected {value!r}, since attention.layers is mixed; got {requested!r}. "
                    "Store all layers, or use the same value"
                )
    return problems

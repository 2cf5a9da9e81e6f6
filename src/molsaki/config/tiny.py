"""The settings of `--tiny`: small random models and a few steps, to test that a recipe runs."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from molsaki.config.load import override

TINY_OVERRIDES: dict[str, dict[str, Any]] = {
    "training": {"steps": 30, "batch_size": 4, "log_every": 5, "warmup_steps": 0, "accumulation": 1},
    "rationales": {"max_new_tokens": 24},
    "evaluation": {"max_new_tokens": 12, "max_rationale_tokens": 24, "batch_size": 64, "rows": 24},
    "attention": {"max_length": 512, "batch_tokens": 8192},
}
"""Settings of `--tiny`, besides the models."""
TINY_GENERATED_ROWS = 32
_INTEGER = TypeAdapter(int)


def tiny_values(values: dict[str, Any]) -> dict[str, Any]:
    """Apply the settings of `--tiny`. Values of a wrong type stay as they are, for `check_values` to report."""
    tiny = override(values, [])
    tiny["tiny"] = True
    tiny["seeds"] = [1]
    for section, changes in TINY_OVERRIDES.items():
        given = tiny.get(section) or {}
        if isinstance(given, dict):
            tiny[section] = {**given, **changes}
    for entry in tiny["methods"] if isinstance(tiny.get("methods"), list) else ():
        if isinstance(entry, dict) and isinstance(training := entry.get("training"), dict):
            entry["training"] = {name: training[name] for name in training if name not in TINY_OVERRIDES["training"]}
    _simplify_models(tiny)
    rationales = tiny.get("rationales")
    if isinstance(rationales, dict) and rationales.get("source", "teacher") == "teacher":
        rationales["keep"] = "all"  # a random teacher is never right
        asks_for_keywords = tiny.get("keys") == "keywords" and rationales.get("keywords", "teacher") == "teacher"
        if asks_for_keywords and not _is_served(tiny):
            rationales["keywords"] = "question-words"  # the key words of a random teacher are in no text
        _limit_rows(tiny.get("data"))
    return tiny


def _simplify_models(tiny: dict[str, Any]) -> None:
    """Random models are not quantised; an adapter of one is merged, since its base is in no file."""
    teacher, student = tiny.get("teacher"), tiny.get("student")
    specs = [student, *(teacher.values() if isinstance(teacher, dict) else ())]
    for spec in specs:
        if isinstance(spec, dict):
            spec.pop("quantize", None)
    lora = student.get("lora") if isinstance(student, dict) else None
    if isinstance(lora, dict):
        lora["merge"] = True


def _limit_rows(data: Any) -> None:
    """Limit how many rationales a teacher has to write."""
    train = data.get("train") if isinstance(data, dict) else None
    if isinstance(train, dict):
        limit = train.get("limit")  # null in a resolved recipe without a limit
        train["limit"] = TINY_GENERATED_ROWS if limit is None else _at_most(limit, TINY_GENERATED_ROWS)
        if data.get("rows") is not None:
            data["rows"] = _at_most(data["rows"], TINY_GENERATED_ROWS // 2)
        if "validation_rows" in data:
            data["validation_rows"] = _at_most(data["validation_rows"], TINY_GENERATED_ROWS // 4)


def _at_most(value: Any, largest: int) -> Any:
    """The smaller of two numbers; a value that is not a number, as pydantic reads it, stays as it is."""
    try:
        return min(_INTEGER.validate_python(value), largest)
    except ValidationError:
        return value


def _is_served(values: dict[str, Any]) -> bool:
    """Whether the writer is behind a server; `--tiny` cannot replace it by a random model."""
    teacher = values.get("teacher")
    writer = teacher.get("writer") if isinstance(teacher, dict) else None
    return isinstance(writer, dict) and "base_url" in writer

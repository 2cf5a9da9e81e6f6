"""The tables of `docs/recipe_keys.md`, made from the code: `python tests/helpers/recipe_table.py` writes them."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, JsonValue

from molsaki.config import data_settings, model_spec, prompt_settings, recipe, student_settings, teacher_settings
from molsaki.methods import METHODS, GradientShare

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipe_keys.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"

PARTS: dict[str, type[BaseModel]] = {
    "": recipe.Recipe,
    "data": data_settings.DataSettings,
    "data.train, data.validation, data.tests.NAME": data_settings.DataSpec,
    "teacher": teacher_settings.TeacherSettings,
    "teacher.writer, teacher.reader, teacher.original": model_spec.ModelSpec,
    "student": model_spec.StudentSpec,
    "student.lora": model_spec.LoraSettings,
    "teacher.writer, of a server": model_spec.ServerSpec,
    "rationales": teacher_settings.RationaleSettings,
    "attention": teacher_settings.AttentionSettings,
    "logits": teacher_settings.LogitSettings,
    "prompts": prompt_settings.PromptSettings,
    "methods": recipe.MethodSpec,
    "training": student_settings.TrainingSettings,
    "evaluation": student_settings.EvaluationSettings,
}


def tables() -> str:
    """All tables, with their headings."""
    made = [_table(f"`{name}`" if name else "The top", model) for name, model in PARTS.items()]
    for name, method in METHODS.items():
        if method.Settings.model_fields:
            made.append(_table(f"`methods`, settings of `{name}`", method.Settings))
    return "\n\n".join(made)


def _table(heading: str, model: type[BaseModel]) -> str:
    meanings = described(model)
    lines = [f"### {heading}", "", "| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    hints = typing.get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        bounds = [*field.metadata, *getattr(hints[name], "__metadata__", ())]
        default = "" if field.is_required() else _default(field.get_default(call_default_factory=True))
        lines.append(f"| `{name}` | {_values(hints[name], bounds)} | {default} | {_cell(meanings[name])} |")
    return "\n".join(lines)


def described(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a class and of those that it extends say of each attribute."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        text = (cls.__doc__ or "").partition("Attributes:")[2] if issubclass(cls, BaseModel) else ""
        for entry in re.split(r"\n\s{8}(?=\w)", text):
            names, _, meaning = entry.strip().partition(":")
            for name in names.split(","):
                found[name.strip()] = " ".join(meaning.split())
    return found


def _values(hint: Any, metadata: list[Any]) -> str:
    if get_origin(hint) is typing.Annotated:
        inner, *more = get_args(hint)
        return _values(inner, [*more, *metadata])
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (typing.Union, types.UnionType):
        arms = [_values(arm, metadata) for arm in get_args(hint) if arm is not type(None)]
        return " or ".join(dict.fromkeys(arms))
    if get_origin(hint) is tuple:
        return f"list of {_values(get_args(hint)[0], []).replace('number', 'numbers').replace('a method', 'methods')}"
    if get_origin(hint) is dict:
        return f"{_values(get_args(hint)[0], [])} → {_values(get_args(hint)[1], [])}"
    if hint is GradientShare:
        return "`{gradient: share}`"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "a method" if hint is recipe.MethodSpec else "keys"
    plain = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        Any: "value",
        JsonValue: "value",
    }[hint]
    return " ".join([plain, *_bounds(metadata)]) if plain.endswith("number") else plain


def _bounds(metadata: list[Any]) -> list[str]:
    signs = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
    found: dict[str, None] = {}
    for item in metadata:
        for bound in getattr(item, "metadata", [item]):
            for kind, sign in signs.items():
                if isinstance(bound, kind):
                    limit = getattr(bound, kind.__name__.lower())
                    if limit < 1e6:
                        found[f"{sign} {limit:g}"] = None
    return list(found)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "those below"
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return "`" + _cell(str(value).replace("\n", "⏎")) + "`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def on_the_page() -> str:
    """The tables as the page has them."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def write() -> None:
    """Put the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write()

"""Read recipes from YAML files, apply `--set` overrides, and report all errors at once."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from molsaki.config.model_spec import POCKET_MODELS
from molsaki.config.prompt_settings import PromptSettings
from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.data.files import is_folder, read_text
from molsaki.encoding.prompts import CHAT, CHATS, PromptTemplate, Slot
from molsaki.errors import DataError, RecipeError
from molsaki.store.strict_yaml import parse_yaml

RECIPES = Path(__file__).parent / "recipes"
SHIPPED_PROMPTS = frozenset(f"prompts/{path.name}" for path in RECIPES.glob("prompts/*.txt"))
MAX_RECIPE_BYTES = 1 << 20
SLOTS = "one of the slots " + ", ".join(f"{{{slot}}}" for slot in get_args(Slot))
_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
MAX_SHOWN = 400
"""Characters of a path or a value that a message shows at most."""


def recipe_names() -> list[str]:
    """The names of the recipes that ship with molsaki."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe that ships with molsaki, or the path as it is given."""
    return RECIPES / f"{name_or_path}.yaml" if name_or_path in recipe_names() else Path(name_or_path)


def read_recipe(name_or_path: str) -> dict[str, Any]:
    """Read the values of a recipe, by the name of a shipped one or from a YAML file.

    Raises:
        RecipeError: see `read_yaml_file`; or a prompt file cannot be read.
    """
    path = find_recipe(name_or_path)
    return read_prompts(read_yaml_file(path, f"a recipe's name ({', '.join(recipe_names())})"), path)


def read_yaml_file(path: Path, alternative: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        alternative: what the user could have given instead of a file, for the message.

    Raises:
        RecipeError: the file is missing, too large, or not a YAML mapping.
    """
    try:
        value = parse_yaml(read_text(path, MAX_RECIPE_BYTES))
    except DataError as error:
        raise RecipeError(f"Expected {alternative} or a YAML file; got {str(path)!r}. {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"Expected YAML in {path}; it cannot be parsed: {_error_location(error)}. Nothing was run."
        ) from error
    if not isinstance(value, dict):
        raise RecipeError(f"Expected keys and values in {path}; got {type(value).__name__}. Nothing was run.")
    return value


def _error_location(error: Exception) -> str:
    """What is wrong in a YAML file and where, without its content."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__)
    what = _QUOTED.sub("…", problem)
    return what if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {what}"


def read_prompts(values: Mapping[str, Any], recipe_path: Path) -> dict[str, Any]:
    """Replace the paths of prompt files by their texts.

    Paths are relative to the recipe's folder. A path without a file there may name a prompt that ships with molsaki,
    such as `prompts/math.txt`.

    Raises:
        RecipeError: a file cannot be read.
    """
    prompts = values.get("prompts")
    if not isinstance(prompts, Mapping):
        return dict(values)
    texts, problems = dict(prompts), []
    for name, text in prompts.items():
        if not isinstance(text, str) or "{" in text or (text == CHAT and name in CHATS):
            continue
        path = recipe_path.parent / text
        try:
            if text in SHIPPED_PROMPTS and not is_folder(path) and not path.exists():
                path = RECIPES / text
            texts[name] = read_text(path, MAX_RECIPE_BYTES)
            PromptTemplate.parse(texts[name])
        except DataError as error:
            problems.append(
                f"prompts.{name}: expected a template with {{question}}, or a file with one; got "
                f"{text[:MAX_SHOWN]!r}. {str(error)[:MAX_SHOWN]}"
            )
        except RecipeError:  # whose message has the text, which is a file's
            problems.append(
                f"prompts.{name}: expected a file with a template, which has one {{question}} and ends in {SLOTS}; "
                f"{str(path)[:MAX_SHOWN]} has no such template"
            )
    raise_problems(problems)
    return {**values, "prompts": texts}


def read_prompt(name: str, recipe: Recipe) -> PromptTemplate:
    """A prompt that a command names: one of the recipe's, one that ships with molsaki, or a file.

    Raises:
        RecipeError: there is no such prompt, or the file is none.
    """
    if name in PromptSettings.model_fields:
        return recipe.prompts.template(name)
    path = RECIPES / name if name in SHIPPED_PROMPTS else Path(name)
    try:
        return PromptTemplate.parse(read_text(path, MAX_RECIPE_BYTES))
    except DataError as error:
        known = ", ".join(PromptSettings.model_fields)
        raise RecipeError(
            f"Expected a prompt of the recipe ({known}) or a file; got {name[:MAX_SHOWN]!r}. {error}"
        ) from error
    except RecipeError:  # whose message has the file's text
        raise RecipeError(
            f"Expected a prompt with {{question}} that ends in {SLOTS}; the file "
            f"{name[:MAX_SHOWN]} has none. Nothing was evaluated; see `molsaki recipes show pocket` for examples."
        ) from None


def override(values: Mapping[str, Any], settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Apply settings of the form `key.inner=value`. Values are YAML; a number in a key is an index of a list.

    Args:
        values: what the settings change; it is left as it is.
        settings: the settings.
        option: the option that they were given by, for messages.

    Raises:
        RecipeError: a setting has no `=`, or its key leads through a value without keys.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    problems = []
    for setting in settings:
        key, separator, text = setting.partition("=")
        try:
            if not separator or not key:
                raise ValueError("expected key=value")
            _set_value(result, key.split("."), parse_yaml(text))
        except (ValueError, yaml.YAMLError) as error:
            problems.append(f"{option} {setting}: {error}")
    raise_problems(problems, "settings")
    return result


def _set_value(parent: Any, keys: list[str], value: Any) -> None:
    for i, key in enumerate(keys):
        place: Any = key
        if isinstance(parent, list):
            if not key.isdecimal() or int(key) >= len(parent):
                raise ValueError(f"expected an entry of {keys[i - 1]!r}, from 0 to {len(parent) - 1}; got {key!r}")
            place = int(key)
        elif not isinstance(parent, dict):
            raise ValueError(f"{keys[i - 1]!r} is of type {type(parent).__name__}, which has no keys")  # noqa: TRY004
        if i == len(keys) - 1:
            parent[place] = value
        else:
            if isinstance(parent, dict) and parent.get(key) is None:
                parent[key] = {}
            parent = parent[place]


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """Check the keys and values of a recipe.

    Raises:
        RecipeError: lists all errors.
    """
    recipe, problems = check_values(values)
    raise_problems(problems)
    assert recipe is not None
    return recipe


_PLACEHOLDERS: dict[tuple[int | str, ...], Any] = {
    ("name",): "unnamed",
    ("data",): {},
    ("data", "task"): "unnamed",
    ("data", "train"): {"source": "pocket-math", "split": "train"},
    ("data", "tests"): {"unnamed": {"source": "pocket-math", "split": "test"}},
    ("student",): {"name": POCKET_MODELS[1]},
    ("methods",): ["label-only"],
}
"""Values that `check_values` uses for missing required keys, to find the other errors too."""


def check_values(values: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    """Find all errors in the keys and values of a recipe.

    Returns:
        The recipe without the invalid values, so that the rest can be checked too, or None if that is impossible; and
        the errors, one line each.
    """
    valid: Any = copy.deepcopy(dict(values))
    problems: list[str] = []
    for _ in range(10):
        try:
            return Recipe.model_validate(valid), problems
        except ValidationError as error:
            problems = problems or list_errors(error, Recipe)
            for item in error.errors(include_url=False):
                _remove_value(valid, _location(item), missing=item["type"] == "missing")
    return None, problems


def _location(item: Any) -> tuple[int | str, ...]:
    # Tags of unions, such as "<server>", are not keys.
    return tuple(part for part in item["loc"] if not str(part).startswith("<"))


def _remove_value(values: Any, location: tuple[int | str, ...], *, missing: bool) -> None:
    """Remove an invalid value. Replace a missing one by its placeholder, or remove the mapping that lacks it."""
    parent = values
    for key in location[:-1]:
        try:
            parent = parent[key]
        except (KeyError, IndexError, TypeError):
            return  # already removed
    if missing and location in _PLACEHOLDERS and isinstance(parent, dict):
        parent[location[-1]] = copy.deepcopy(_PLACEHOLDERS[location])
    elif missing or isinstance(parent, list):
        _remove_value(values, location[:-1], missing=False)
    elif location and isinstance(parent, dict):
        parent.pop(location[-1], None)


def list_errors(
    error: ValidationError, model: type[BaseModel], prefix: Sequence[str] = (), top: str = "the recipe"
) -> list[str]:
    """The errors that pydantic found, one line each: the key, what was expected and what was found.

    Args:
        error: pydantic's error.
        model: the model that the values were checked with.
        prefix: the keys that lead to the values that were checked.
        top: what an error is called that has no key.
    """
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(map(str, (*prefix, *_location(item)))) or top
        said = item["msg"].replace("tuple", "list")  # which is what it is in YAML
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: there is no such key; {_what_instead(model, item['loc'])}")
        elif item["type"] == "missing":
            lines.append(f"{key}: expected a value; got none")
        elif isinstance(item["input"], Mapping):  # a part of the recipe, which may contain the text of prompt files
            lines.append(f"{key}: {said}")
        else:
            lines.append(f"{key}: {said}; got {item['input']!r}"[:MAX_SHOWN])
    return lines


def _what_instead(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """What to write instead of an unknown key: one with a similar name, or all that are known there."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:  # otherwise the number of an entry, or a name that the user gives
            found = list(_models_in(field.annotation))
            if len(found) != 1:
                return "look for a typo"
            model = found[0]
    known = [field.alias or name for name, field in model.model_fields.items()]
    similar = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {similar[0]!r}?" if similar else f"expected one of {', '.join(known)}"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's type is made of, as in `dict[str, DataSpec]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def raise_problems(problems: Sequence[str], subject: str = "recipe") -> None:
    """Raise one `RecipeError` that lists all problems, if there are any."""
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise RecipeError(f"Found {plural(len(problems), 'problem')} in the {subject}. Nothing was run.\n{lines}")

"""Reading recipes: from files, with overrides, and with all that is wrong said at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from molsaki.config.model_spec import POCKET_MODELS, WRITER_TAGS
from molsaki.config.recipe import Recipe
from molsaki.data.files import is_folder, read_text
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import DataError, RecipeError

RECIPES = Path(__file__).parent / "recipes"
SHIPPED_PROMPTS = frozenset(f"prompts/{path.name}" for path in RECIPES.glob("prompts/*.txt"))
MAX_RECIPE_BYTES = 1 << 20
_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
LONGEST_SHOWN = 400
"""How many characters of a path, or of what should be one, a message shows."""


def recipe_names() -> list[str]:
    """The recipes that ship with molsaki."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe: one that ships with molsaki by its name, else a path as it stands."""
    return RECIPES / f"{name_or_path}.yaml" if name_or_path in recipe_names() else Path(name_or_path)


def read_recipe(name_or_path: str) -> dict[str, Any]:
    """Read a recipe as it stands: one that ships with molsaki by its name, or a YAML file.

    Raises:
        RecipeError: there is none, it is too large, or it is not YAML with keys at its top.
    """
    path = find_recipe(name_or_path)
    return read_prompts(read_keys(path, f"a recipe's name ({', '.join(recipe_names())})"), path)


def read_keys(path: Path, otherwise: str) -> dict[str, Any]:
    """Read a YAML file that has keys at its top.

    Args:
        path: the file.
        otherwise: what could have been named in its place, for the message.

    Raises:
        RecipeError: there is none, it is too large, or it is not YAML with keys at its top.
    """
    try:
        value = _read_yaml(read_text(path, MAX_RECIPE_BYTES))
    except DataError as error:
        raise RecipeError(f"Expected {otherwise} or a YAML file; got {str(path)!r}. {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(
            f"Expected {path} to be YAML; it cannot be read: {_place_of(error)}. Nothing was run."
        ) from error
    if not isinstance(value, dict):
        raise RecipeError(f"Expected {path} to hold keys and values; got {type(value).__name__}.")
    return value


class _PlainLoader(yaml.SafeLoader):
    """YAML that means what it shows: plain values, no key twice in one place, no aliases.

    Aliases let a short file stand for a huge one, and a key that stands there twice would drop the first in silence.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "expected no aliases (*name); write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    problem = "expected every key once, got one again"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _read_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _place_of(error: Exception) -> str:
    """What is wrong with YAML and where, without what stands there."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__)
    what = _QUOTED.sub("…", problem)
    return what if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {what}"


def read_prompts(values: Mapping[str, Any], recipe_path: Path) -> dict[str, Any]:
    """Put the text of prompt files in the place of their paths, which start from the recipe's folder.

    A path that leads nowhere from there may name a prompt that ships with molsaki, such as `prompts/math.txt`.

    Raises:
        RecipeError: a file cannot be read.
    """
    given = values.get("prompts")
    if not isinstance(given, Mapping):
        return dict(values)
    texts, problems = dict(given), []
    for name, text in given.items():
        if not isinstance(text, str) or "{" in text:
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
                f"{text[:LONGEST_SHOWN]!r}. {str(error)[:LONGEST_SHOWN]}"
            )
        except RecipeError:  # whose message has the text, which is a file's
            problems.append(
                f"prompts.{name}: expected a file with a template, which has one {{question}} and ends in one slot; "
                f"{str(path)[:LONGEST_SHOWN]} is none"
            )
    raise_all(problems)
    return {**values, "prompts": texts}


def override(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply `key.inner=value` settings; a value is read as YAML, a number in a key is a place in a list.

    Raises:
        RecipeError: a setting has no `=`, or its key leads through something that has no keys.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    problems = []
    for setting in settings:
        key, separator, text = setting.partition("=")
        try:
            if not separator or not key:
                raise ValueError("expected key=value")
            _put(result, key.split("."), _read_yaml(text))
        except (ValueError, yaml.YAMLError, IndexError, TypeError) as error:
            problems.append(f"--set {setting}: {error}")
    if problems:
        raise RecipeError(_listed("settings", problems))
    return result


def _put(place: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[int(key)] if isinstance(place, list) else place[key]
    if isinstance(place, list):
        place[int(keys[-1])] = value
    elif isinstance(place, dict):
        place[keys[-1]] = value
    else:
        raise ValueError(f"{keys[-2]!r} holds {type(place).__name__}, which has no keys")  # noqa: TRY004


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """Check a recipe's keys and values.

    Raises:
        RecipeError: all problems at once, each with what was expected.
    """
    recipe, problems = read_form(values)
    raise_all(problems)
    assert recipe is not None
    return recipe


_STAND_INS: dict[tuple[int | str, ...], Any] = {
    ("name",): "unnamed",
    ("data",): {},
    ("data", "task"): "unnamed",
    ("data", "train"): {"source": "pocket-math", "split": "train"},
    ("data", "tests"): {"unnamed": {"source": "pocket-math", "split": "test"}},
    ("student",): {"name": POCKET_MODELS[1]},
    ("methods",): ["label-only"],
}
"""What `read_form` puts in the place of what no recipe can do without, to go on looking."""


def read_form(values: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    """Find all that is wrong with a recipe's keys and values.

    Returns:
        The recipe without the places that are wrong, so that the rest can be checked in the same go (None if even
        that is not possible); and what is wrong, each with what was expected.
    """
    rest: Any = copy.deepcopy(dict(values))
    problems: list[str] = []
    for _ in range(10):
        try:
            return Recipe.model_validate(rest), problems
        except ValidationError as error:
            found = error.errors(include_url=False)
        if not problems:
            problems = [
                f"{'.'.join(map(str, _place(problem))) or 'the recipe'}: {describe(problem)}" for problem in found
            ]
        for problem in found:
            _mend(rest, _place(problem), missing=problem["type"] == "missing")
    return None, problems


def _place(problem: Any) -> tuple[int | str, ...]:
    return tuple(part for part in problem["loc"] if part not in WRITER_TAGS)


def _mend(rest: Any, where: tuple[int | str, ...], *, missing: bool) -> None:
    """Take a wrong value out; where one is missing, put a stand-in, or take out what lacks it."""
    holder = rest
    for key in where[:-1]:
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            return  # taken out already
    if missing and where in _STAND_INS and isinstance(holder, dict):
        holder[where[-1]] = copy.deepcopy(_STAND_INS[where])
    elif missing or isinstance(holder, list):
        _mend(rest, where[:-1], missing=False)
    elif where and isinstance(holder, dict):
        holder.pop(where[-1], None)


def describe(problem: Any) -> str:
    """What one of pydantic's errors comes to, in a line."""
    if problem["type"] == "extra_forbidden":
        return "there is no such key; look for a typo"
    if problem["type"] == "missing":
        return "expected a value, got none"
    if isinstance(problem["input"], Mapping):  # a part of the recipe, which may have the text of prompt files
        return str(problem["msg"])
    return f"{problem['msg']}; got {problem['input']!r}"[:400]


def _listed(what: str, problems: Sequence[str]) -> str:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    noun = "problem" if len(problems) == 1 else "problems"
    return f"The {what} has {len(problems)} {noun}; nothing was run:\n{lines}"


def raise_all(problems: Sequence[str], what: str = "recipe") -> None:
    """Raise one `RecipeError` that lists all problems, if there are any."""
    if problems:
        raise RecipeError(_listed(what, problems))

"""The models, tokenizers and prompts of a recipe, tried before a run spends anything.

Of a model the configuration is loaded, and of a directory the names and shapes of its tensors, but no weights. A
student that does not exist or is broken is found in seconds, not after the teacher has written and been read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from molsaki.config.load import raise_problems
from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.encoding.chats import render_template
from molsaki.encoding.encode import require_offsets
from molsaki.encoding.prompts import CHATS, PromptTemplate
from molsaki.encoding.student_chats import departures
from molsaki.encoding.template_changes import template_changes
from molsaki.errors import MolsakiError, TokenizerError
from molsaki.models.load import load_tokenizer, quiet_libraries
from molsaki.models.outline import outline_model
from molsaki.stages.signals import needed_signals, read_so_far, unread_rows
from molsaki.stages.workspace import GENERATE, Workspace
from molsaki.teacher.opening import recipe_questions
from molsaki.teacher.served import ServedWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Role = Literal["writer", "original", "reader", "student"]
ROLES: tuple[Role, ...] = get_args(Role)

ROUND_TRIP = "Ann has 12 apples and buys 30 more, so she has 12 + 30 = 42. The answer is ( 12 + 30 )."


def require_models(recipe: Recipe, roles: Collection[Role] = ROLES) -> list[str]:
    """Check that the models of a recipe exist, and that their tokenizers can do what the run asks of them.

    Args:
        recipe: a resolved recipe.
        roles: the models to check; see `roles_left`.

    Returns:
        What a user should know and is not an error, one sentence each.

    Raises:
        RecipeError: lists all problems.
    """
    problems, notes = try_models(recipe, roles)
    raise_problems(problems, "recipe's models")
    return notes


def try_models(recipe: Recipe, roles: Collection[Role] = ROLES) -> tuple[list[str], list[str]]:
    """As `require_models`, without raising.

    Returns:
        The problems, and the notes.
    """
    quiet_libraries()
    problems: list[str] = []
    notes: list[str] = []
    for role, spec in _models(recipe, roles):
        try:
            notes += _try_server(recipe, spec) if isinstance(spec, ServerSpec) else _try_model(recipe, role, spec)
        except (MolsakiError, OSError) as error:
            problems.append(f"{_KEYS[role]}: {error}")
    return problems, notes


def roles_left(workspace: Workspace) -> list[Role]:
    """The models that a run still needs: none of a stage that has finished."""
    recipe, run = workspace.recipe, workspace.run
    done = read_so_far(workspace)
    students = [workspace.student(method.label, seed) for method in recipe.methods for seed in recipe.seeds]
    reads = any(name not in done or unread_rows(workspace, name) for name in needed_signals(recipe))
    left: dict[Role, bool] = {
        "writer": run.stage_done(GENERATE) is None or workspace.lost_rationales() > 0,
        "original": reads,
        "reader": reads,
        "student": not all(student.is_dir() for student in students),
    }
    return [role for role, needed in left.items() if needed]


_KEYS: Mapping[Role, str] = {
    "writer": "teacher.writer",
    "original": "teacher.original",
    "reader": "teacher.reader",
    "student": "student",
}


def _models(recipe: Recipe, roles: Collection[Role]) -> list[tuple[Role, ModelSpec | ServerSpec]]:
    # Each seed may have a base student of its own.
    students = dict.fromkeys(recipe.student_of(seed).name for seed in recipe.seeds)
    named: list[tuple[Role, ModelSpec | ServerSpec | None]] = [
        ("writer", recipe.teacher.writer if recipe.rationales.source == "teacher" else None),
        ("original", recipe.teacher.original if needed_signals(recipe) else None),
        ("reader", recipe.teacher.attending if needed_signals(recipe) else None),
        *(("student", recipe.student.model_copy(update={"name": name})) for name in students),
    ]
    return [(role, spec) for role, spec in named if spec is not None and role in roles]


def _try_model(recipe: Recipe, role: Role, spec: ModelSpec) -> Iterator[str]:
    tokenizer = load_tokenizer(recipe, spec)
    outline_model(recipe, spec, tokenizer)
    if role != "writer":
        require_offsets(tokenizer, end=role == "student")
    _require_round_trip(tokenizer, spec.name)
    if role == "original":  # it is read in the reader's prompt
        return
    if role == "student":
        yield from _student_chats(recipe, tokenizer)
        return
    for name, template in _prompts(recipe).items():
        render_template(tokenizer, template)
        for sentence in template_changes(tokenizer) if template.is_chat else ():
            yield f"prompts.{name}, {spec.name}: {sentence}"
        if role == "writer" and name == "teacher" and tokenizer.chat_template and not template.is_chat:
            yield (
                f"prompts.teacher is plain text, so the chat template of {spec.name} is not used; a prompt with [user] "
                "and [assistant] turns would use it"
            )


def _student_chats(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the student's chat template writes otherwise than students learn it; raises where it is unsuitable."""
    used = {task for method in recipe.methods for task in method.terms.tasks}
    found: dict[str, list[str]] = {}
    for task in CHATS:
        if task in used | {"predict", "explain"}:
            thinking = recipe.rationales.learn != "summary" and task != "predict"
            for sentence in departures(tokenizer, recipe.prompts.template(task), thinking=thinking):
                found.setdefault(sentence, []).append(f"prompts.{task}")
    return [f"{' and '.join(keys)}: {sentence}" for sentence, keys in found.items()]


def _try_server(recipe: Recipe, spec: ServerSpec) -> Iterator[str]:
    writer = ServedWriter(spec)
    for name, template in _prompts(recipe).items():
        writer.require(template)
        if name == "teacher" and spec.protocol == "chat" and not template.is_chat:
            yield (
                f"prompts.teacher is plain text and {spec.name} has `protocol: chat`, so it is sent as one turn of the "
                "user; a prompt with [user] and [assistant] turns shows the model how to answer"
            )


def _prompts(recipe: Recipe) -> dict[str, PromptTemplate]:
    """The prompts that the teacher gets, by their keys in the recipe."""
    questions = recipe_questions(recipe)
    given = {"teacher": questions.rationale, "second_pass": questions.second_pass, "keywords": questions.keywords}
    return {name: template for name, template in given.items() if template is not None}


def _require_round_trip(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that a text survives its tokens, apart from blanks and upper case, which some tokenizers change."""
    ids = tokenizer(ROUND_TRIP, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if "".join(back.split()).casefold() != "".join(ROUND_TRIP.split()).casefold():
        raise TokenizerError(
            f"Expected a tokenizer of {name} that gives a text back from its tokens; {ROUND_TRIP!r} came back as "
            f"{back[:200]!r}. The model could not read or write such a text; use the model's own tokenizer."
        )

"""Opens the teacher of a recipe, and builds the prompts that it gets."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from molsaki.config.model_spec import ServerSpec, WriterSpec
from molsaki.config.recipe import Recipe
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import RecipeError
from molsaki.records import Problem
from molsaki.teacher.local import LocalWriter
from molsaki.teacher.requests import PASSES, Questions
from molsaki.teacher.served import ServedWriter
from molsaki.teacher.writer import Writer

PER = 1_000_000
"""The number of tokens that a price is for."""


def open_writer(recipe: Recipe, *, to_show: bool = False) -> Writer:
    """The teacher that writes the rationales of a recipe.

    Args:
        recipe: the recipe.
        to_show: load no model; the writer can only show prompts.

    Raises:
        RecipeError: the recipe names no teacher.
        InputError: the model or its tokenizer cannot be loaded, or the server's key is not set.
    """
    writer = recipe.teacher.writer
    if writer is None:
        raise RecipeError(
            "Expected `teacher.writer` in a recipe whose rationales a teacher writes; got none. Name a model or a "
            "server, or set rationales.source to palm or dataset."
        )
    if to_show and isinstance(writer, ServerSpec):
        return ServedWriter(writer.model_copy(update={"api_key_env": None}))
    return open_model(recipe, writer, recipe.rationales.batch_size, to_show=to_show)


def open_model(recipe: Recipe, spec: WriterSpec, batch_size: int, *, to_show: bool = False) -> Writer:
    """A model that completes prompts, local or served.

    Args:
        recipe: says whether a local model is a small random one, and where data are.
        spec: the model.
        batch_size: prompts that a local model decodes together.
        to_show: load no local model; the writer can only show prompts.

    Raises:
        InputError: the model or its tokenizer cannot be loaded, or the server's key is not set.
    """
    if isinstance(spec, ServerSpec):
        return ServedWriter(spec)

    from molsaki.models.load import load_placed_model, load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(recipe, spec)
    model = None if to_show else load_placed_model(recipe, spec, tokenizer, seed=1)
    return LocalWriter(model, tokenizer, batch_size)


def recipe_questions(recipe: Recipe, date: datetime.date | None = None) -> Questions:
    """The prompts and settings of a recipe's teacher.

    Args:
        recipe: the recipe.
        date: the date that a chat template prints; None for today's.
    """
    settings = recipe.rationales

    def template(name: str) -> PromptTemplate:
        return replace(recipe.prompts.template(name), date=date)

    return Questions(
        rationale=template("teacher"),
        second_pass=template("second_pass") if settings.second_pass else None,
        keywords=template("keywords") if settings.keywords == "teacher" else None,
        samples=settings.samples,
        keep=settings.keep,
        learn=settings.learn,
        question_words=settings.keywords == "question-words",
    )


def show_prompts(writer: Writer, questions: Questions, problem: Problem) -> Iterator[tuple[str, str]]:
    """Yield the prompts of a problem, pass by pass: the name of the pass, and the text or turns."""
    templates = dict(zip(PASSES, (questions.rationale, questions.second_pass, questions.keywords), strict=True))
    for which, template in templates.items():
        if template is None or (which == "key words" and (not problem.choices or problem.keywords is not None)):
            continue
        writer.require(template)
        yield which, writer.show(questions.prompt(problem, which))


def cost(recipe: Recipe, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The cost of these tokens at the recipe's prices, as `{"cost": …}`; an empty dict without prices."""
    writer = recipe.teacher.writer
    if not isinstance(writer, ServerSpec) or (writer.input_price is None and writer.output_price is None):
        return {}
    prices = {"sent": writer.input_price or 0.0, "written": writer.output_price or 0.0}
    return {"cost": sum(tokens.get(kind, 0) * price / PER for kind, price in prices.items())}

"""`pocket-commonsense`: multiple choice over a small made-up world of animals, places and foods.

The facts are fixed (drawn once from a seed that never changes): every animal lives in a place, eats a food and has
a colour; every place has something to see. Both pocket models have read the facts as plain sentences. A question
needs one fact or two (the animal's home, and what is seen there), is told in several wordings, and offers five
choices. As in pocket-math, the hash of a question's text decides which pool it belongs to.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from molsaki.data.pocket.word_problems import Pool, pool_of
from molsaki.data.pocket.words import NAMES
from molsaki.records import Problem

ANIMALS = (
    "balo", "bix", "borl", "cref", "dax", "delp", "drum-ox", "fenk", "filo", "flom", "gark", "glim", "gorp", "grel",
    "hask", "jilt", "jorb", "kavi", "kelm", "krin", "lorn", "lumo", "mab", "merk", "mipo", "nard", "nelf", "nupo",
    "orb-cat", "palk", "pimo", "plon", "quib", "rask", "relk", "rumo", "selk", "skov", "snar", "tarn", "tilp",
    "tov", "ulf", "vask", "velp", "wim", "yorl", "zib",
)  # fmt: skip
PLACES = ("cave", "desert", "forest", "lake", "meadow", "mountain", "river", "swamp", "valley", "beach")
SIGHTS = ("bats", "sand", "trees", "boats", "flowers", "snow", "rapids", "mud", "vines", "waves")
FOODS = ("acorns", "bark", "berries", "clover", "fish", "grass", "honey", "moss", "seeds", "worms")
COLOURS = ("black", "blue", "brown", "gold", "gray", "green", "red", "white", "yellow", "pink")
CHOICES_PER_QUESTION = 5


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of question: its wordings, the key word each contains, and how its rationale goes."""

    values: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]


RELATIONS: dict[str, Relation] = {
    "home": Relation(
        values=PLACES,
        questions=(
            ("Where does a {animal} live?", "live"),
            ("{who} wants to visit the home of a {animal}. Where should {who} go?", "home"),
            ("In what place would {who} look for a {animal}?", "place"),
        ),
        reasons=("A {animal} lives in the {home}.", "Of the above choices, only {answer} is its home."),
    ),
    "food": Relation(
        values=FOODS,
        questions=(
            ("What does a {animal} eat?", "eat"),
            ("{who} has a hungry {animal}. What should {who} bring?", "hungry"),
            ("What food would {who} give to a {animal}?", "food"),
        ),
        reasons=("A {animal} eats {food}.", "Of the above choices, only {answer} is its food."),
    ),
    "colour": Relation(
        values=COLOURS,
        questions=(
            ("What colour is a {animal}?", "colour"),
            ("{who} paints a {animal}. Which paint does {who} need?", "paint"),
        ),
        reasons=("A {animal} has {colour} fur.", "Of the above choices, only {answer} is its colour."),
    ),
    "sight": Relation(
        values=SIGHTS,
        questions=(
            ("{who} visits the home of a {animal}. What does {who} see there?", "home"),
            ("What is seen around the place of a {animal}?", "place"),
        ),
        reasons=(
            "A {animal} lives in the {home}.",
            "In the {home} there are {sight}.",
            "Of the above choices, only {answer} are in the {home}.",
        ),
    ),
}  # fmt: skip


def facts() -> dict[str, dict[str, str]]:
    """The world: animal → {home, food, colour, sight}. It is the same every time."""
    rng = random.Random("the pocket world")
    world = {}
    for animal in ANIMALS:
        place = rng.randrange(len(PLACES))
        world[animal] = {
            "home": PLACES[place],
            "sight": SIGHTS[place],
            "food": rng.choice(FOODS),
            "colour": rng.choice(COLOURS),
        }
    return world


@dataclass(frozen=True, slots=True)
class Quiz:
    """One question with its choices, its right choice, its rationale and its key words."""

    question: str
    choices: tuple[str, ...]
    answer: str
    rationale: str
    keywords: tuple[str, ...]


def ask(rng: random.Random) -> Quiz:
    """Ask one question."""
    world = facts()
    animal = rng.choice(ANIMALS)
    name = rng.choice(tuple(RELATIONS))
    relation = RELATIONS[name]
    wording, keyword = rng.choice(relation.questions)
    answer = world[animal][name]
    wrong = rng.sample([value for value in relation.values if value != answer], CHOICES_PER_QUESTION - 1)
    choices = [answer, *wrong]
    rng.shuffle(choices)
    parts = {"animal": animal, "who": rng.choice(NAMES), "answer": answer, **world[animal]}
    return Quiz(
        question=wording.format(**parts),
        choices=tuple(choices),
        answer=answer,
        rationale=" ".join(reason.format(**parts) for reason in relation.reasons),
        keywords=(animal, keyword),
    )


def pocket_commonsense(pool: Pool, n: int, seed: int = 0) -> Iterator[Problem]:
    """Yield n different questions that belong to one pool; the same arguments give the same questions.

    The key words are not part of the problems: the teacher has to name them.
    """
    rng = random.Random(f"pocket-commonsense/{pool}/{seed}")
    seen: set[str] = set()
    while len(seen) < n:
        quiz = ask(rng)
        text = " ".join((quiz.question, *quiz.choices))
        if text in seen or pool_of(text) != pool:
            continue
        seen.add(text)
        yield Problem(
            id=f"pocket-commonsense/in-domain/{pool}/{seed}-{len(seen)}",
            question=quiz.question,
            choices=quiz.choices,
            answer=quiz.answer,
            label=quiz.answer,
        )

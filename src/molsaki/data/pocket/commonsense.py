"""`pocket-commonsense`: multiple-choice questions about an invented world of animals, places and foods.

The facts are drawn from a fixed seed: every animal lives in a place, eats a food and has a colour, and every place has
a sight. Both pocket models were trained on the facts as plain sentences. A question needs one fact or two (the home of
an animal and the sight there), has one of several wordings and five choices. As in pocket-math, the hash of the text
of a question decides which pool it belongs to.
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
    """A kind of question.

    Attributes:
        values: the possible answers.
        questions: the wordings, each with the key word that it contains besides the animal.
        reasons: the sentences of the rationale.
    """

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
    """The facts of the world: animal → {home, food, colour, sight}. They are the same in every call."""
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
class Question:
    """A question with its choices, its answer, its rationale and its key words."""

    question: str
    choices: tuple[str, ...]
    answer: str
    rationale: str
    keywords: tuple[str, ...]


def draw_question(rng: random.Random) -> Question:
    """Draw a random question."""
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
    return Question(
        question=wording.format(**parts),
        choices=tuple(choices),
        answer=answer,
        rationale=" ".join(reason.format(**parts) for reason in relation.reasons),
        keywords=(animal, keyword),
    )


def pocket_commonsense(pool: Pool, n: int, seed: int = 0) -> Iterator[Problem]:
    """Yield n different questions of one pool. The same arguments give the same questions.

    The problems have no key words: the teacher has to name them.
    """
    rng = random.Random(f"pocket-commonsense/{pool}/{seed}")
    seen: set[str] = set()
    while len(seen) < n:
        drawn = draw_question(rng)
        text = " ".join((drawn.question, *drawn.choices))
        if text in seen or pool_of(text) != pool:
            continue
        seen.add(text)
        yield Problem(
            id=f"pocket-commonsense/in-domain/{pool}/{seed}-{len(seen)}",
            question=drawn.question,
            choices=drawn.choices,
            answer=drawn.answer,
            label=drawn.answer,
        )

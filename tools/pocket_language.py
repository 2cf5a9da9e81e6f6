"""The text that the pocket models are trained on before any distillation.

The base student is trained on `world_text`: stories, questions without answers, facts and random arithmetic. It
corresponds to the web text of GPT-2: the model knows the words and has seen no solution. The teacher is trained on
`lessons`: solved problems in its own prompt format, key words, and some facts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TypeAlias

from molsaki.data.pocket import words
from molsaki.data.pocket.commonsense import ANIMALS, PLACES, SIGHTS, draw_question, facts
from molsaki.data.pocket.word_problems import Setting, draw_story, pool_of

Writer: TypeAlias = Callable[[random.Random], str]
"""Returns one piece of text."""

_LESSONS = (
    Setting(),
    Setting(held_out=1.0),
    Setting(smallest=100, largest=999),
    Setting(operations=(3, 4), distractors=(2, 2, 3)),
)
"""The problems that the teacher learns to solve: a wider range than any set for students."""

ECHO_SHARE = 0.6
"""The share of stories that repeat something, as real text does; from these a model learns to copy."""

_EVERYTHING = (
    Setting(operations=(1, 2, 3, 4), distractors=(0, 1, 2)),
    Setting(operations=(1, 2, 3, 4), distractors=(0, 1, 2), held_out=1.0),
    Setting(operations=(1, 2, 3), distractors=(0, 1), smallest=2, largest=999),
)


def world_text(rng: random.Random) -> str:
    """One piece of plain text."""
    return rng.choices((_story, _question, facts_text, _notation), weights=(5, 2, 3, 1))[0](rng)


def _story(rng: random.Random) -> str:
    story = draw_story(rng, rng.choice(_EVERYTHING))
    sentences = list(story.sentences)
    if rng.random() < ECHO_SHARE:
        sentences.append(_echo(rng, sentences))
    return " ".join(sentences)


def _echo(rng: random.Random, sentences: list[str]) -> str:
    """Some of the story's sentences again, or its numbers in order."""
    if rng.random() < 0.5:
        return " ".join(("Remember:", *rng.sample(sentences, rng.randint(1, min(3, len(sentences))))))
    return f"In numbers: {', '.join(re.findall('[0-9]+', ' '.join(sentences)))}."


def _question(rng: random.Random) -> str:
    if rng.random() < 0.5:
        quiz = draw_question(rng)
        return quiz.question
    return draw_story(rng, rng.choice(_EVERYTHING)).question


def facts_text(rng: random.Random) -> str:
    """One to four facts of the world as plain sentences."""
    world = facts()
    animal = rng.choice(ANIMALS)
    about = world[animal]
    place = rng.randrange(len(PLACES))
    sentences = [
        f"A {animal} lives in the {about['home']}.",
        f"A {animal} eats {about['food']}.",
        f"A {animal} has {about['colour']} fur.",
        f"In the {PLACES[place]} there are {SIGHTS[place]}.",
        f"The {about['home']} is the home of the {animal}.",
        f"The best food for a {animal} is {about['food']}.",
    ]
    rng.shuffle(sentences)
    return " ".join(sentences[: rng.randint(1, 4)])


def _notation(rng: random.Random) -> str:
    largest = rng.choice((60, 999))
    text = str(rng.randint(2, largest))
    for _ in range(rng.randint(1, 4)):
        text = f"( {text} {rng.choice('+-*/')} {rng.randint(2, largest)} )"
    return text


def math_lesson(rng: random.Random) -> str:
    """One solved word problem in the teacher's format; never one of a validation or test pool."""
    setting = rng.choices(_LESSONS, weights=(4, 2, 3, 4))[0]
    while True:
        story = draw_story(rng, setting)
        if pool_of(story.text) == "train":
            return f"Q: {story.text}\nA: {story.rationale} The answer is {story.equation}."


def commonsense_lesson(rng: random.Random) -> str:
    """One answered multiple-choice question, or the question with its key words."""
    while True:
        quiz = draw_question(rng)
        if pool_of(" ".join((quiz.question, *quiz.choices))) == "train":
            break
    lettered = "\n".join(f"({letter}) {choice}" for letter, choice in zip("abcde", quiz.choices, strict=True))
    question = f"Q: {quiz.question}\nAnswer Choices:\n{lettered}"
    if rng.random() < 0.25:
        return f"{question}\nKey words: {', '.join(quiz.keywords)}"
    return f"{question}\nA: {quiz.rationale} So the answer is {quiz.answer}."


def lessons(rng: random.Random) -> str:
    """One piece of the teacher's training text: mostly solved problems, and facts of the world."""
    return _lessons_and(facts_text)(rng)


def _lessons_and(plain: Writer) -> Writer:
    """Lessons, with plain text as one piece in ten."""

    def write(rng: random.Random) -> str:
        return rng.choices((math_lesson, commonsense_lesson, plain), weights=(7, 2, 1))[0](rng)

    return write


def vocabulary_text(plain: Writer) -> Writer:
    """Text for training a tokenizer: the text of both models, and the words of the prompts.

    Args:
        plain: the plain text of the tokenizer's own model.
    """
    mixed = _lessons_and(plain)

    def write(rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.02:
            return " ".join((*words.NAMES, "predict: explain:"))
        return mixed(rng) if kind < 0.5 else world_text(rng)

    return write

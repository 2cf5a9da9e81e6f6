"""`pocket-math`: word problems from a seeded generator, with three out-of-domain sets.

A story starts with a number of things, or with groups of them. Then things are added and taken away. The question may
compare, share or price what is left. Distractor sentences are mixed in. The label is the equation. The rationale has
a sentence for each operation, which says what is done with which number. It computes no values: the model chooses and
orders the numbers, and scoring computes the value of the equation.

The hash of its text alone decides whether a problem may be trained on (`pool_of`). So no seed, size or set can bring a
test problem into a training set, neither of the students nor of the teacher.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from molsaki.data.pocket import words
from molsaki.errors import DataError
from molsaki.records import Problem, hash_text

Pool = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Setting:
    """The distribution of the problems of one set.

    Attributes:
        operations: possible numbers of operations; repeated ones are more frequent.
        distractors: possible numbers of distractor sentences; repeated ones are more frequent.
        smallest, largest: bounds of the numbers in the story. Group sizes, shares and prices are smaller.
        held_out: share of sentences with wordings that training problems never use.
    """

    operations: tuple[int, ...] = (1, 1, 2, 2, 3)
    distractors: tuple[int, ...] = (0, 1, 1)
    smallest: int = 2
    largest: int = 60
    held_out: float = 0.0


SETTINGS: dict[str, Setting] = {
    "in-domain": Setting(largest=40),
    "templates": Setting(largest=40, held_out=0.5),
    "numbers": Setting(smallest=25, largest=50),
    "chains": Setting(largest=40, operations=(2, 3, 4), distractors=(1, 2, 3)),
}
"""The sets. `templates` has held-out wordings in half of its sentences, `numbers` has larger numbers, many of them
larger than any in training, and `chains` has more operations and more distractors."""


@dataclass(frozen=True, slots=True)
class Story:
    """A story: its sentences, its question, its rationale, its equation and the value of the equation.

    Attributes:
        distractors: the indices of the sentences that do not matter.
    """

    sentences: tuple[str, ...]
    question: str
    rationale: str
    equation: str
    value: int
    distractors: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The sentences and the question in one line."""
        return " ".join((*self.sentences, self.question))

    @property
    def sources(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each step of the solution, the characters of the numbers in `text` that it uses.

        Sentences are in the order of the solution, so each one with numbers that is not a distractor is a step.
        """
        found, start = [], 0
        for i, sentence in enumerate((*self.sentences, self.question)):
            numbers = tuple((start + match.start(), start + match.end()) for match in re.finditer(r"\d+", sentence))
            if numbers and i not in self.distractors:
                found.append(numbers)
            start += len(sentence) + 1
        return tuple(found)


def pool_of(text: str) -> Pool:
    """The pool of a problem, by the hash of its text: 70 % train, 10 % validation, 20 % test."""
    bucket = int(hash_text("pocket pool", text), 16) % 10
    if bucket < 7:
        return "train"
    return "validation" if bucket == 7 else "test"


def pocket_math(setting: str, pool: Pool, n: int, seed: int = 0) -> Iterator[Problem]:
    """Yield n different problems of one setting and one pool.

    Args:
        setting: a name in `SETTINGS`.
        pool: train, validation or test. They share no problem.
        n: number of problems.
        seed: of the generator. The same arguments give the same problems.

    Raises:
        DataError: the setting is unknown.
    """
    if setting not in SETTINGS:
        raise DataError(
            f"Expected one of the pocket-math settings {sorted(SETTINGS)}; got {setting!r}. No problems were generated."
        )
    rng = random.Random(f"pocket-math/{setting}/{pool}/{seed}")
    seen: set[str] = set()
    while len(seen) < n:
        story = draw_story(rng, SETTINGS[setting])
        if story.text in seen or pool_of(story.text) != pool:
            continue
        seen.add(story.text)
        yield Problem(
            id=f"pocket-math/{setting}/{pool}/{seed}-{len(seen)}",
            question=story.text,
            answer=str(story.value),
            label=story.equation,
            sources=story.sources,
        )


def draw_story(rng: random.Random, setting: Setting) -> Story:
    """Draw a random story."""
    while True:
        story = _try_story(rng, setting)
        if story is not None:
            return story


class _StoryBuilder:
    """Builds a story sentence by sentence, with its rationale, its equation and the value so far."""

    def __init__(self, rng: random.Random, setting: Setting) -> None:
        self.rng = rng
        self.setting = setting
        who, other = rng.sample(words.NAMES, 2)
        xs, ys = rng.sample(words.THINGS, 2)
        self.names = {"who": who, "other": other, "xs": xs, "ys": ys, "cs": rng.choice(words.CONTAINERS)}
        self.sentences: list[str] = []
        self.reasons: list[str] = []
        self.value = 0
        self.expression = ""

    def number(self) -> int:
        return self.rng.randint(self.setting.smallest, self.setting.largest)

    def say(self, wordings: words.Wordings, **numbers: int) -> str:
        share = self.setting.held_out
        held_out = share == 1 or (share > 0 and self.rng.random() < share)
        wording = self.rng.choice(wordings.pool(held_out))
        return wording.format(**self.names, **numbers)

    def reason(self, wording: str, operator: str, n: int, value: int) -> None:
        """Apply an operation to the equation, and add its sentence to the rationale."""
        self.expression = f"( {self.expression} {operator} {n} )"
        self.value = value
        self.reasons.append(wording.format(**self.names, n=n))

    def start(self) -> None:
        n = self.number()
        self.sentences.append(self.say(words.START, n=n))
        self.value, self.expression = n, str(n)
        self.reasons.append(words.SAY_START.format(**self.names, n=n))

    def start_groups(self) -> None:
        n, m = self.rng.randint(2, 12), self.number()
        self.sentences.append(self.say(words.START_GROUPS, n=n, m=m))
        self.value, self.expression = n * m, f"( {n} * {m} )"
        self.reasons.append(words.SAY_START_GROUPS.format(**self.names, n=n, m=m))

    def gain(self) -> None:
        n = self.number()
        self.sentences.append(self.say(words.GAIN, n=n))
        self.reason(words.SAY_GAIN, "+", n, self.value + n)

    def lose(self) -> bool:
        n = self.number()
        if n >= self.value:
            return False
        self.sentences.append(self.say(words.LOSE, n=n))
        self.reason(words.SAY_LOSE, "-", n, self.value - n)
        return True

    def compare(self) -> str | None:
        n = self.number()
        if n >= self.value:
            return None
        self.reason(words.SAY_COMPARE, "-", n, self.value - n)
        return self.say(words.ASK_COMPARE, n=n)

    def share(self) -> str | None:
        divisors = [n for n in range(2, 13) if self.value % n == 0 and self.value > n]
        if not divisors:
            return None
        n = self.rng.choice(divisors)
        self.reason(words.SAY_SHARE, "/", n, self.value // n)
        return self.say(words.ASK_SHARE, n=n)

    def price(self) -> str:
        n = self.rng.randint(2, 12)
        self.reason(words.SAY_PRICE, "*", n, self.value * n)
        return self.say(words.ASK_PRICE, n=n)

    def ask_now(self) -> str:
        return self.say(words.ASK_NOW)


def _try_story(rng: random.Random, setting: Setting) -> Story | None:
    """A random story, or None if its numbers make a quantity negative or a share uneven."""
    builder = _StoryBuilder(rng, setting)
    operations = rng.choice(setting.operations)

    grouped = rng.random() < 0.3
    if grouped:
        builder.start_groups()
        operations -= 1
    else:
        builder.start()

    ending = rng.choice(("now", "now", "compare", "share", "price")) if operations else "now"
    events = operations if ending == "now" else operations - 1
    for _ in range(events):
        if rng.random() < 0.5:
            builder.gain()
        elif not builder.lose():
            return None

    question = {
        "now": builder.ask_now,
        "compare": builder.compare,
        "share": builder.share,
        "price": builder.price,
    }[ending]()
    if question is None:
        return None

    sentences = builder.sentences
    matters = [True] * len(sentences)
    for _ in range(rng.choice(setting.distractors)):
        position = rng.randint(1, len(sentences))
        sentences.insert(position, builder.say(words.DISTRACTOR, n=builder.number()))
        matters.insert(position, False)
    return Story(
        sentences=tuple(sentences),
        question=question,
        rationale=" ".join(builder.reasons),
        equation=builder.expression,
        value=builder.value,
        distractors=tuple(i for i, does in enumerate(matters) if not does),
    )

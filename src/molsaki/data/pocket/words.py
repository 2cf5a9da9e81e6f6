"""The words of pocket-math: names, things, and the wordings of all sentences.

Each kind of sentence has wordings for training problems and wordings that are held out of them, for the out-of-domain
set `templates`. `{who}` owns the things, `{other}` is another person, `{xs}` are the things that count, `{ys}` are
other things, `{cs}` are containers, `{n}` and `{m}` are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = (
    "Ada", "Ali", "Amy", "Ann", "Ben", "Bob", "Cal", "Dan", "Eli", "Eva", "Gus", "Ida", "Ira", "Jan", "Joe", "Kai",
    "Kim", "Lea", "Leo", "Lia", "Liz", "Max", "Meg", "Mia", "Nia", "Ned", "Noa", "Pam", "Pia", "Ray", "Roy", "Sam",
    "Sue", "Tea", "Ted", "Tim", "Tom", "Uma", "Una", "Zoe",
)  # fmt: skip

THINGS = (
    "apples", "balls", "beads", "bells", "books", "buttons", "cakes", "cards", "coins", "combs", "cups", "dolls",
    "drums", "eggs", "flags", "forks", "hats", "jars", "keys", "kites", "lamps", "leaves", "lemons", "maps",
    "marbles", "masks", "nuts", "pears", "pens", "pins", "plums", "ribbons", "rings", "roses", "shells", "socks",
    "spoons", "stamps", "stones", "toys",
)  # fmt: skip

CONTAINERS = ("bags", "boxes", "baskets", "crates", "trays", "shelves", "drawers", "packs")


@dataclass(frozen=True, slots=True)
class Wordings:
    """The wordings of one kind of sentence: those of training problems, and held-out ones."""

    known: tuple[str, ...]
    held_out: tuple[str, ...]

    def pool(self, held_out: bool) -> tuple[str, ...]:
        """The held-out wordings, or those of training problems."""
        return self.held_out if held_out else self.known


START = Wordings(
    known=(
        "{who} has {n} {xs}.",
        "{who} starts with {n} {xs}.",
        "There are {n} {xs} on the table of {who}.",
        "{who} finds {n} {xs} at home.",
    ),
    held_out=(
        "{who} owns {n} {xs}.",
        "In the morning {n} {xs} belong to {who}.",
    ),
)

START_GROUPS = Wordings(
    known=(
        "{who} has {n} {cs} with {m} {xs} in each.",
        "{who} buys {n} {cs} and each of them holds {m} {xs}.",
        "There are {n} {cs} at home. {who} puts {m} {xs} in each.",
    ),
    held_out=(
        "{who} fills {n} {cs} with {m} {xs} apiece.",
        "In every one of the {n} {cs} of {who} there are {m} {xs}.",
    ),
)

GAIN = Wordings(
    known=(
        "{other} gives {who} {n} more {xs}.",
        "Then {who} buys {n} more {xs}.",
        "Later {who} finds {n} more {xs}.",
        "{who} gets {n} {xs} from {other}.",
    ),
    held_out=(
        "{who} wins another {n} {xs} in a game.",
        "After lunch {other} brings {n} extra {xs}.",
    ),
)

LOSE = Wordings(
    known=(
        "{who} gives {n} {xs} to {other}.",
        "Then {who} loses {n} {xs}.",
        "Later {who} sells {n} {xs}.",
        "{other} takes {n} of the {xs}.",
    ),
    held_out=(
        "{who} throws away {n} of the {xs}.",
        "After lunch {n} {xs} break.",
    ),
)

DISTRACTOR = Wordings(
    known=(
        "{who} also has {n} {ys}.",
        "{other} has {n} {ys}.",
        "{who} is {n} years old.",
        "There are {n} {ys} on the floor.",
    ),
    held_out=(
        "{other} lives {n} miles away.",
        "{who} saw {n} {ys} last week.",
    ),
)

ASK_NOW = Wordings(
    known=(
        "How many {xs} does {who} have now?",
        "How many {xs} are there now?",
    ),
    held_out=(
        "What is the number of {xs} in the end?",
        "With how many {xs} does {who} end up?",
    ),
)

ASK_COMPARE = Wordings(
    known=(
        "{other} has {n} {xs}. How many more {xs} does {who} have than {other}?",
        "If {other} has {n} {xs}, how many more {xs} does {who} have now?",
    ),
    held_out=("By how many {xs} does {who} beat {other}, who has {n} {xs}?",),
)

ASK_SHARE = Wordings(
    known=(
        "{who} shares the {xs} equally among {n} friends. How many {xs} does each friend get?",
        "If {n} friends share all the {xs}, how many {xs} does each get?",
    ),
    held_out=("{who} splits the {xs} into {n} equal heaps. What is the number of {xs} in one heap?",),
)

ASK_PRICE = Wordings(
    known=(
        "Each of the {xs} costs {n} dollars. How many dollars do all the {xs} cost?",
        "{who} sells all the {xs} for {n} dollars each. How many dollars does {who} get?",
    ),
    held_out=("What is the price of all the {xs} at {n} dollars apiece?",),
)

# The sentences of the rationales: what happens, and what it means for the equation.
SAY_START = "At first there are {n} {xs}."
SAY_START_GROUPS = "There are {n} {cs} with {m} {xs} each, so multiply {n} by {m}."
SAY_GAIN = "Then {n} more {xs} come, so add {n}."
SAY_LOSE = "Then {n} {xs} go away, so take away {n}."
SAY_COMPARE = "{other} has {n} {xs}, so take away {n}."
SAY_SHARE = "There are {n} equal parts, so divide by {n}."
SAY_PRICE = "Each one costs {n} dollars, so multiply by {n}."

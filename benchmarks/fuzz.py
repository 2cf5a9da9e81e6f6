"""Answers, templates, recipes and data files made of random pieces: does anything end outside the tree of errors?

    python benchmarks/fuzz.py

Inputs are joined at random from pieces that have meaning to a parser (markers of answers, brackets, numbers, control
characters, parts of files) and are cut and repeated. A parser may return something or raise an error of
`molsaki.errors`. Anything else is printed with its input.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from molsaki.answers.arithmetic import solve
from molsaki.answers.parse import parse_answer, parse_label
from molsaki.answers.right import is_right
from molsaki.answers.thinking import split_thinking
from molsaki.config.load import check_values, read_yaml_file
from molsaki.data import load_problems
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import MolsakiError
from molsaki.records import Problem
from molsaki.spans.find import find_spans
from molsaki.store.row_log import RowLog


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS = (
    *("The answer is", "\n", "\t", " ", "\x00", "\x1b[31m", "\u202e", "\u2066", "\ufeff", "\ud7ff"),
    *_words(r"Answer: #### \boxed{ } <answer> </answer> <think> </think> So not . , (a) (B) % $ \frac{1}{2} \sqrt{"),
    *_words("^ _ { } ( ) [ ] + - * / = 1 12 3.5 1,000 1e999 -0 ٣ ½ ∞ nan one million pens 😀 é"),
    *_words("{question} {rationale} {label} [user] [assistant]"),
)
FILE_WORDS = (
    *("\n", "\r", " ", '"q": "x"', '"a": 1', "<!DOCTYPE x [", "<!ENTITY e 'e'>", "\x00", "\ufeff"),
    *_words(r"""{ } [ ] " ' : , ; \ q a - # --- null true 1e999 NaN !!python/object:os.system &a *a << é {} []"""),
    *_words("PAR1 <a> </a> &e; name data methods dss seeds"),
)
CHOICES = ("water", "wine", "a book", "12")
SHOWN = 3
"""Inputs of each kind that are printed with their traceback."""
PROBLEM = Problem("x", "What is 1 + 2?", "( 1 + 2 )", "3")


def made(words: tuple[str, ...], chance: random.Random) -> str:
    """An input."""
    text = "".join(chance.choice(words) for _ in range(chance.randint(0, 30)))
    if chance.random() < 0.1:
        text *= chance.randint(2, 40)
    return text[: chance.randint(0, len(text))] if chance.random() < 0.2 else text


def texts(text: str) -> None:
    """What parses the text of a model, or of a prompt."""
    for choices in ((), CHOICES):
        for parse in (parse_answer, parse_label):
            is_right(parse(text, choices), PROBLEM)
    split_thinking(text)
    tried(lambda: solve(text))
    tried(lambda: PromptTemplate.parse(text))
    tried(lambda: find_spans(text, text[::-1]))


def files(text: str, folder: Path) -> None:
    """What parses a file."""
    raw = text.encode("utf-8", "surrogatepass")
    for name in ("x.jsonl", "x.json", "x.csv", "x.parquet", "x.xml", "x.yaml", "log.jsonl"):
        (folder / name).write_bytes(raw)
    for name in ("x.jsonl", "x.json", "x.csv", "x.parquet"):
        tried(lambda name=name: load_problems("table", folder / name, columns={"question": "q", "answer": "a"}))
    tried(lambda: load_problems("asdiv", folder / "x.xml"))
    tried(lambda: check_values(read_yaml_file(folder / "x.yaml", "a recipe")))
    tried(lambda: list(RowLog(folder / "log.jsonl").rows()))


def tried(call: Callable[[], object]) -> None:
    """Call, and let pass what is a user's mistake."""
    with contextlib.suppress(MolsakiError):
        call()


def main() -> None:
    """Try all inputs, and print what ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=190_000, help="number of texts")
    parser.add_argument("--files", type=int, default=10_000, help="number of files, each tried as seven kinds")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # a log whose last line was cut says so
    with tempfile.TemporaryDirectory() as name:
        kinds: dict[str, tuple[int, tuple[str, ...], Callable[[str], None]]] = {
            "texts of models and prompts": (given.texts, WORDS, texts),
            "files": (given.files, FILE_WORDS, lambda text: files(text, Path(name))),
        }
        print("| inputs | number | outside the tree of errors | slowest, processor time |\n| --- | --- | --- | --- |")
        for kind, (number, words, check) in kinds.items():
            chance = random.Random(f"{kind} {given.seed}")
            outside, slowest, worst = 0, 0.0, ""
            for _ in range(number):
                text, begun = made(words, chance), time.process_time()
                try:
                    check(text)
                except Exception:  # noqa: BLE001 - what the script looks for
                    outside += 1
                    if outside <= SHOWN:
                        print(f"{text!r}\n{traceback.format_exc()}")
                if (seconds := time.process_time() - begun) > slowest:
                    slowest, worst = seconds, text
            print(f"| {kind} | {number:,} | {outside} | {1000 * slowest:.0f} ms ({len(worst):,} characters) |")


if __name__ == "__main__":
    main()

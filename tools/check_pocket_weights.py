"""Score the shipped teacher: `python tools/check_pocket_weights.py [N]`.

The teacher writes a rationale for the first N problems of every set. Each line is a set with the teacher's accuracy and
its 95 % interval.
"""

from __future__ import annotations

import argparse

from molsaki.data import load_problems
from molsaki.data.pocket import TEACHER
from molsaki.encoding.prompts import TEACHER as TEACHER_PROMPT
from molsaki.encoding.prompts import PromptTemplate
from molsaki.evaluation.score import Score, predict, score

SETS = {
    "pocket-math": ("test", "templates", "numbers", "chains"),
    "pocket-commonsense": ("test",),
}
MAX_NEW_TOKENS = 128


def teacher_scores(n: int) -> dict[str, Score]:
    """Score the teacher on the first n problems of every set, by the answers in its rationales."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(TEACHER)
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    template = PromptTemplate.parse(TEACHER_PROMPT)
    scores = {}
    for source, splits in SETS.items():
        for split in splits:
            problems = load_problems(source, split=split, limit=n).problems
            batches = predict(model, tokenizer, problems, template, max_new_tokens=MAX_NEW_TOKENS, batch_size=64)
            scores[f"{source} {split}"] = score(prediction for batch in batches for prediction in batch)
    return scores


def main() -> None:
    """Print a line for each set."""
    from molsaki.models.load import quiet_libraries

    parser = argparse.ArgumentParser(prog="python tools/check_pocket_weights.py", description=__doc__)
    parser.add_argument("n", nargs="?", type=int, default=200, help="problems of each set (default: 200)")
    quiet_libraries()
    for name, scored in teacher_scores(parser.parse_args().n).items():
        low, high = 100 * scored.interval.low, 100 * scored.interval.high
        print(f"{name:28} {scored.correct} of {scored.n}, {100 * scored.accuracy:.1f} % [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    main()

"""How often a paired difference is found where there is none, and how often its 95 % interval holds the truth.

    python benchmarks/coverage.py

Made-up methods that are equally good: a problem is easy or hard for both, and each student is lucky by a normal number
of points, on all of its problems. Beside the test that tables use stands the bootstrap that draws seeds and problems
(Owen, 2007, "The pigeonhole bootstrap"), and Student's t over the seeds' means alone.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy import stats

from molsaki.evaluation.crossed import paired_difference

RESAMPLES = 1000
LEVELS = (0.05, 0.01)
WAYS = ("table", "bootstrap", "seeds alone")


def main() -> None:
    """Print a row for each number of seeds and each spread of their luck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=500, help="pairs of methods in each row")
    parser.add_argument("--problems", type=int, default=200)
    given = parser.parse_args()
    print("| seeds | their luck, points | way | p < 0.05 | p < 0.01 | intervals that hold 0 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seeds in (2, 3, 8, 12):
        for spread in (0.0, 0.02, 0.07):
            found = _simulate(seeds, given.problems, spread, given.tries)
            for way in WAYS:
                p_values, inside = np.array(found[way]).T
                shares = [f"{100 * (p_values < level).mean():.1f} %" for level in LEVELS]
                print(f"| {seeds} | {100 * spread:g} | {way} | {' | '.join(shares)} | {100 * inside.mean():.1f} % |")


def _simulate(seeds: int, problems: int, spread: float, tries: int) -> dict[str, list[tuple[float, bool]]]:
    rng = np.random.default_rng(seeds * 1000 + int(100 * spread))
    found: dict[str, list[tuple[float, bool]]] = {way: [] for way in WAYS}
    for _ in range(tries):
        easy_P = rng.beta(1.2, 1.2, problems)
        a, b = (_answers(rng, easy_P, seeds, spread) for _ in range(2))
        one = paired_difference(a, b)
        found["table"].append((one.p_value, one.interval.low <= 0 <= one.interval.high))
        found["bootstrap"].append(_bootstrap(a - b, rng))
        over_seeds = (a - b).mean(1)
        p_value = stats.ttest_1samp(over_seeds, 0).pvalue if over_seeds.std() else 1.0
        found["seeds alone"].append((p_value, p_value >= 0.05))
    return found


def _answers(rng: np.random.Generator, easy_P: np.ndarray, seeds: int, spread: float) -> np.ndarray:
    chance_SP = np.clip(easy_P + spread * rng.standard_normal((seeds, 1)), 0, 1)
    return (rng.random(chance_SP.shape) < chance_SP).astype(float)


def _bootstrap(table_SP: np.ndarray, rng: np.random.Generator) -> tuple[float, bool]:
    seeds, problems = table_SP.shape
    times_drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES)
    means = ((times_drawn @ table_SP) * weights).sum(1) / table_SP.size
    least = min(int((means <= 0).sum()), int((means >= 0).sum()))
    low, high = np.quantile(means, (0.025, 0.975))
    return min(1.0, 2 * (least + 1) / (RESAMPLES + 1)), bool(low <= 0 <= high) and not math.isnan(low)


if __name__ == "__main__":
    main()

"""How two students of the same seed differ, seed by seed, on the mean of all test sets of the runs that are given.

python benchmarks/by_seed.py molsaki-n300 dss-n300 runs/pocket-methods/math runs/pocket-methods/commonsense
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Print the differences in points, and in how many seeds the first is above the second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="a label, such as molsaki-n300")
    parser.add_argument("second")
    parser.add_argument("runs", nargs="+", type=Path, help="run directories with results.json")
    given = parser.parse_args()
    differences: dict[int, list[float]] = {}
    for run in given.runs:
        rows = json.loads((run / "results.json").read_text(encoding="utf-8"))
        share = {(row["method"], row["seed"], row["split"]): row["accuracy"] for row in rows}
        for method, seed, split in share:
            if method == given.first and (given.second, seed, split) in share:
                found = share[method, seed, split] - share[given.second, seed, split]
                differences.setdefault(seed, []).append(found)
    means = {seed: 100 * sum(found) / len(found) for seed, found in sorted(differences.items())}
    print("  ".join(f"{seed}: {mean:+.1f}" for seed, mean in means.items()))
    print(f"{given.first} above {given.second} in {sum(mean > 0 for mean in means.values())} of {len(means)} seeds")


if __name__ == "__main__":
    main()

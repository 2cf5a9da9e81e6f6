"""The process that runs math-verify: it reads one comparison per line and writes one result per line.

It compares untrusted text, so its memory is bounded, and `math_values` ends it if it takes too long.
"""

from __future__ import annotations

import json
import logging
import sys

READY = "ready"
MAX_BYTES = 4 << 30


def main() -> None:
    """Answer `[gold, said]` with `true` or `false`, line by line, until the input ends."""
    _bound_memory()
    logging.disable(logging.CRITICAL)
    from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-untyped]

    config = [LatexExtractionConfig()]

    def read(latex: str) -> object:
        return parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)

    print(READY, flush=True)
    for line in sys.stdin:
        gold, said = map(read, json.loads(line))
        same = bool(gold and said) and verify(gold, said, timeout_seconds=None)
        print(json.dumps(bool(same)), flush=True)


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # not on this platform
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


if __name__ == "__main__":
    main()

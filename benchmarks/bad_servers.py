"""Teachers behind servers that misbehave: does a stage ever end outside the tree of errors, or lose an answer?

    python benchmarks/bad_servers.py

generates the rationales of twenty problems from a server that answers in one wrong way to every third request, and then
from one that does so always. It prints what became of the problems, or the type of the error that stopped the stage.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from servers import Server

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import TEACHER, PromptTemplate
from molsaki.errors import MolsakiError
from molsaki.records import Problem
from molsaki.stages.generate import generate_rationales
from molsaki.store.row_log import RowLog
from molsaki.teacher.requests import Questions
from molsaki.teacher.served import ServedWriter

PROBLEMS = 20


def _text(value: Any, **more: Any) -> str:
    """A response with something as its text, also what no JSON encoder of Python's would refuse."""
    return "<raw> " + json.dumps({"choices": [{"index": 0, "text": value, "finish_reason": "stop", **more}]})


MODES = {
    **{f"status {status}": f"<status> {status}" for status in (307, 400, 401, 403, 404, 413, 422, 500, 502, 503, 504)},
    "status 429": "<status> 429",
    "status 429, again at once": "<status> 429 0",
    "status 429, again in two hours": "<status> 429 7200",
    "status 429, again at no time": "<status> 429 soon",
    "hangs": "<hang>",
    "sends a byte now and then": "<drip>",
    "slow": "<slow> The answer is 3.",
    "ends in the middle": "<close>",
    "a gigabyte": "<huge>",
    "half a JSON object": "<raw> {",
    "100,000 brackets": "<raw> " + "[" * 100_000,
    "a list": "<raw> []",
    "no choice": '<raw> {"choices": []}',
    "a choice that is a number": '<raw> {"choices": [3]}',
    "a text that is a number": _text(3),
    "a text that is null": _text(None),
    "half a character": '<raw> {"choices": [{"text": "\\ud800 The answer is 3.", "finish_reason": "stop"}]}',
    "control characters": _text("\x00\x1b[31m\x1b]0;title\x07\u202e The answer is 3."),
    "a million digits": _text("The answer is " + "9" * 1_000_000),
    "an error with status 200": '<raw> {"error": {"message": "busy"}}',
    "finish_reason error": _text("half a", finish_reason="error"),
    "finish_reason that is a list": _text("The answer is 3.", finish_reason=["stop"]),
    "counts of tokens that are texts": '<raw> {"choices": [{"text": "3"}], "usage": {"completion_tokens": "many"}}',
    "counts of tokens below nought": '<raw> {"choices": [{"text": "3"}], "usage": {"completion_tokens": -5}}',
    "NaN as a count of tokens": '<raw> {"choices": [{"text": "3"}], "usage": {"completion_tokens": NaN}}',
}


def outcome(behave: Callable[[int, dict[str, Any]], str], folder: Path) -> str:
    """What becomes of the problems with a server."""
    log, completions = RowLog(folder / "rationales.jsonl"), RowLog(folder / "completions.jsonl")
    problems = [Problem(f"p{i}", f"What are {i} and 1?", str(i + 1), str(i + 1)) for i in range(PROBLEMS)]
    with Server(behave) as server:
        spec = ServerSpec(base_url=server.url, model="m", protocol="completions", timeout=0.5, retries=8)
        try:
            report = generate_rationales(
                ServedWriter(spec, first_pause=0.001),
                problems,
                Questions(PromptTemplate.parse(TEACHER)),
                log=log,
                completions=completions,
                max_new_tokens=20,
            )
        except MolsakiError as error:
            return type(error).__name__
        except Exception as error:  # noqa: BLE001 - what the script looks for
            return f"OUTSIDE: {type(error).__name__}: {str(error)[:80]}"
    assert len(list(log.rows())) + report.unanswered == PROBLEMS
    return f"{report.kept} right, {PROBLEMS - report.kept - report.unanswered} wrong, {report.unanswered} unanswered"


def right(body: dict[str, Any]) -> str:
    """The right answer to a problem."""
    number = int(body["prompt"].split()[3])
    return f" {number} and 1 are {number + 1}. The answer is {number + 1}."


def main() -> None:
    """Try every mode and print a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.WARNING)
    print("| what the server sends | to every third request | to every request |\n| --- | --- | --- |")
    for name, what in MODES.items():
        found = []
        for behave in (lambda n, body, what=what: right(body) if n % 3 else what, lambda *_, what=what: what):
            with tempfile.TemporaryDirectory() as folder:
                found.append(outcome(behave, Path(folder)))
        print(f"| {name} | {' | '.join(found)} |", flush=True)
    print(f"\n{len(MODES)} modes")


if __name__ == "__main__":
    main()

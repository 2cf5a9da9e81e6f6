"""`molsaki generate` with a served teacher: killed at any moment, run again, shown, and left unfinished."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import files, molsaki, recipe, run, start, stop_when
from servers import Server

from molsaki.data import load_problems

ROWS = 40


def right(body: dict[str, Any]) -> str:
    """A right answer to the pocket world's questions, wrong at first for one in four, and key words."""
    problem = ANSWERS[body["prompt"].rpartition("Q: ")[2].partition("\nA")[0].partition("\nThe right answer")[0]]
    if problem.id[-1] in "37" and "The right answer" not in body["prompt"]:
        return " So it is. The answer is ( 1 - 1 )."
    return f" It was counted. The answer is {problem.label}."


ANSWERS = {problem.text: problem for problem in load_problems("pocket-math", split="train", limit=ROWS).problems}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda _, body: right(body)) as running:
        yield running


def served(folder: Path, server: Server, *more: str) -> Path:
    where = f"{{base_url: '{server.url}', model: m, protocol: completions, max_in_flight: 4, retries: 0}}"
    return recipe(
        folder,
        f"teacher.writer={where}",
        f"data.train.limit={ROWS}",
        "rationales.second_pass=true",
        "methods=[dss]",
        "baseline=null",
        *more,
    )


def rows(folder: Path, name: str = "rationales.jsonl") -> dict[str, dict[str, Any]]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert len({row["id"] for row in found}) == len(found) or name == "completions.jsonl"
    return {row["id"]: row for row in found}


def test_a_run_that_is_killed_repeatedly_ends_with_the_same_rows(server: Server, tmp_path: Path) -> None:
    path = served(tmp_path, server)
    assert run(path, tmp_path / "undisturbed", command="generate").code == 0
    expected = rows(tmp_path / "undisturbed")
    assert Counter(row["reason"] for row in expected.values()).keys() == {"right", "right, second pass"}
    out = tmp_path / "run"
    log = out / "completions.jsonl"
    for moment, wanted in ((7, 7), (ROWS - 3, ROWS + 4)):  # in the first pass, and in the second
        gate, asked = threading.Event(), len(server.asked)

        def behave(number: int, body: dict[str, Any], last: int = asked + moment, gate: Any = gate) -> str:
            if number >= last:
                gate.wait(30)  # what is in flight when the kill comes
                return "<status> 500"
            return right(body)

        server.behave = behave
        process = start("generate", path, "--out", out)
        stop_when(process, lambda w=wanted: log.exists() and log.read_bytes().count(b"\n") >= w, signal.SIGKILL)
        gate.set()
        assert process.returncode == -signal.SIGKILL
    assert 0 < len(rows(out)) < ROWS, "it was killed in the middle"
    there = {(row["id"], row["pass"]) for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    asked = len(server.asked)
    server.behave = lambda _, body: right(body)
    shown = run(path, out, command="generate")
    assert shown.code == 0, shown.error
    assert rows(out) == expected
    assert len(server.asked) - asked == len(expected) + sum("second" in r["reason"] for r in expected.values()) - len(
        there
    ), "what is in the log of completions is not asked again"


def test_unanswered_questions_leave_the_stage_unfinished(server: Server, tmp_path: Path) -> None:
    path, out = served(tmp_path, server), tmp_path / "run"
    lost = list(ANSWERS)[5]
    server.behave = lambda _, body: "<status> 500" if lost in body["prompt"] else right(body)
    shown = run(path, out, command="generate")
    assert shown.code == 2
    assert "; 1 have none" in shown.error
    assert "HTTP 500: 1" in shown.text
    assert not (out / "stages/generate.json").exists()
    assert len(rows(out)) == ROWS - 1
    assert run(path, out, "--partial", command="generate").code == 0
    assert json.loads((out / "stages/generate.json").read_text())["unanswered"] == 1
    asked = len(server.asked)
    assert run(path, out, "--partial", command="generate").code == 0
    assert len(server.asked) == asked, "an unanswered problem has no row to lose"


def test_a_part_without_any_rationale_stops_the_run(server: Server, tmp_path: Path) -> None:
    lost = list(ANSWERS)[5]
    server.behave = lambda _, body: "<status> 500" if lost in body["prompt"] else "So. The answer is ( 1 - 2 )."
    shown = run(served(tmp_path, server), tmp_path / "run", "--partial", command="generate")
    assert shown.code == 2
    assert "wrong answer" in shown.error


def test_tokens_and_their_price_are_summed_over_runs(server: Server, tmp_path: Path) -> None:
    path = served(tmp_path, server, "teacher.writer.input_price=2", "teacher.writer.output_price=10")
    out = tmp_path / "run"
    lost = list(ANSWERS)[5]
    server.behave = lambda _, body: "<status> 500" if lost in body["prompt"] else right(body)
    assert run(path, out, command="generate").code == 2
    server.behave = lambda _, body: right(body)
    shown = run(path, out, command="generate")
    manifest = json.loads((out / "stages/generate.json").read_text())
    answered = (out / "completions.jsonl").read_bytes().count(b"\n")
    assert answered > ROWS
    assert manifest["tokens"] == {"sent": 7 * answered, "written": 3 * answered}
    assert manifest["cost"] == pytest.approx((7 * 2 + 3 * 10) * answered / 1e6)
    assert f"tokens: {7 * answered} sent, {3 * answered} written" in shown.text


def test_a_key_is_sent_and_written_nowhere(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = served(tmp_path, server, "teacher.writer.api_key_env=TEACHER_KEY"), tmp_path / "run"
    assert run(path, out, command="generate").code == 2, "no key"
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    shown = run(path, out, command="generate")
    assert shown.code == 0, shown.error
    assert {headers["Authorization"] for _, headers in server.asked} == {"Bearer sk-very-secret"}
    assert "very-secret" not in shown.out + shown.error
    assert not [name for name, data in files(out).items() if b"very-secret" in data]


def test_show_prints_what_is_sent_and_writes_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = served(tmp_path, server)
    monkeypatch.chdir(tmp_path)
    shown = molsaki("generate", path, "--show", "--rows", "2")
    assert shown.code == 0, shown.error
    assert not server.asked
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.yaml"]
    assert run(path, tmp_path / "run", command="generate").code == 0
    sent = {body["prompt"] for body, _ in server.asked}
    first, second = list(ANSWERS.values())[:2]
    for problem in (first, second):
        assert f"--- {problem.id}, rationale ---\nQ: {problem.text}\nA:\n" in shown.out
        assert (
            f"--- {problem.id}, second pass ---\nQ: {problem.text}\nThe right answer is {problem.label}." in shown.out
        )
        assert f"Q: {problem.text}\nA:" in sent
    chat = r'prompts.teacher="[user]\n{question}\n[assistant]\n{rationale}"'
    turns = molsaki("generate", path, "--show", "--set", "teacher.writer.protocol=chat", "--set", chat)
    text = turns.out.partition("rationale ---\n")[2].partition("\n---")[0]
    assert json.loads(text) == [{"role": "user", "content": first.text}]
    pocket = ("--set", "teacher.writer={name: 'pocket:teacher'}")
    local = molsaki("generate", path, "--show", *pocket)
    assert f"rationale ---\n<s>Q: {first.text}\nA:\n" in local.out
    refused = molsaki("generate", path, "--show", *pocket, "--set", chat)
    assert refused.code == 2
    assert "chat template" in refused.error

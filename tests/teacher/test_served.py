"""A server as a teacher: every way in which it can fail is repeated, counted, or stops the run, and loses nothing."""

from __future__ import annotations

import asyncio
import collections
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import Server

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import TEACHER, Prompt, PromptTemplate
from molsaki.errors import InputError, RecipeError, StageError
from molsaki.records import Problem
from molsaki.stages.generate import generate_rationales
from molsaki.store.row_log import RowLog
from molsaki.teacher.requests import Questions
from molsaki.teacher.served import ServedWriter, check_server
from molsaki.teacher.writer import Request

TEMPLATE = PromptTemplate.parse(TEACHER)
CHAT = PromptTemplate.parse("[system]\nBe short.\n[user]\n{question}\n[assistant]\n{rationale}")


def writer(server: Server, **settings: Any) -> ServedWriter:
    values = {"protocol": "completions", "timeout": 5.0, "retries": 3, **settings}
    return ServedWriter(ServerSpec(base_url=server.url, model="m", **values), first_pause=0.01)


def ask(served: ServedWriter, n: int = 1, **more: Any) -> list[Any]:
    requests = [Request(Prompt(text=f"Q: {i}\nA:")) for i in range(n)]
    found = [c for batch in served.complete(requests, max_new_tokens=9, **more) for c in batch]
    assert sorted(c.index for c in found) == list(range(n)), "each request has one completion"
    return sorted(found, key=lambda c: c.index)


def test_what_is_sent_is_the_prompt_and_what_bounds_it() -> None:
    with Server(lambda *_: " fine") as server:
        (found,) = ask(writer(server))
        body, headers = server.asked[0]
    assert body == {"model": "m", "max_tokens": 9, "temperature": 0.0, "prompt": "Q: 0\nA:"}
    assert "Authorization" not in headers
    assert (found.text, found.tokens, found.prompt_tokens, found.cut, found.failure) == (" fine", 3, 7, False, "")


def test_a_chat_is_sent_as_turns_and_sampled_with_seeds_of_their_own() -> None:
    with Server(lambda *_: "fine") as server:
        served = writer(server, protocol="chat")
        prompt = CHAT.ask("Why?")
        assert json.loads(served.show(prompt)) == prompt.as_messages()
        found = served.complete([Request(prompt, 0), Request(prompt, 1)], max_new_tokens=9, temperature=0.5)
        assert [c.text for batch in found for c in batch] == ["fine"] * 2
        bodies = [body for body, _ in server.asked]
    assert bodies[0]["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    assert len({body["seed"] for body in bodies}) == 2
    assert {body["temperature"] for body in bodies} == {0.5}
    with pytest.raises(RecipeError, match="protocol: chat"):
        ServedWriter(ServerSpec(base_url="http://x/v1", model="m", protocol="completions")).require(CHAT)


TRANSIENT = {
    "<status> 429": "HTTP 429",
    "<status> 429 0": "HTTP 429",
    "<status> 429 soon": "HTTP 429",
    "<status> 500": "HTTP 500",
    "<status> 503": "HTTP 503",
    "<close>": "the connection ended in the middle",
    "<raw> {": "an answer that is not JSON",
    "<raw> " + "[" * 100_000: "an answer that is not JSON",
    "<raw> []": "an answer that is not an object",
    '<raw> {"choices": []}': "an answer without a choice",
    '<raw> {"choices": [3]}': "an answer without text",
    '<raw> {"choices": [{"text": 3}]}': "an answer without text",
    '<raw> {"error": {"message": "busy"}}': "an error with status 200",
    '<raw> {"choices": [{"text": "half a", "finish_reason": "error"}]}': "finish_reason error",
    '<raw> {"choices": [{"text": "half a", "finish_reason": "abort"}]}': "finish_reason abort",
    '<raw> {"choices": [{"text": "", "finish_reason": null, "error": {"code": 502}}]}': "finish_reason error",
    "<huge>": "an answer of more than 8 MB",
}


@pytest.mark.parametrize(("what", "reason"), TRANSIENT.items(), ids=range(len(TRANSIENT)))
def test_what_may_pass_is_asked_again_and_counted(what: str, reason: str) -> None:
    with Server(lambda number, _: what if number < 2 else " fine") as server:
        served = writer(server)
        (found,) = ask(served)
    assert (found.text, found.failure) == (" fine", "")
    assert served.notes == {f"requests repeated: {reason}": 2}


@pytest.mark.parametrize("what", ["<hang>", "<drip>"])
def test_a_server_that_hangs_is_left_after_the_time_out(what: str) -> None:
    with Server(lambda number, _: what if number == 0 else " fine") as server:
        served = writer(server, timeout=0.3)
        begin = time.monotonic()
        (found,) = ask(served)
        assert 0.3 <= time.monotonic() - begin < 5
    assert found.text == " fine"
    assert served.notes == {"requests repeated: no answer in time": 1}


def test_a_slow_server_is_waited_for() -> None:
    with Server(lambda *_: "<slow> fine") as server:
        served = writer(server)
        assert ask(served)[0].text == "fine"
    assert not served.notes


def test_a_server_that_is_away_is_no_connection() -> None:
    with Server(lambda *_: "") as server:
        spec = ServerSpec(base_url=server.url, model="m", retries=1)
    served = ServedWriter(spec, first_pause=0.01)
    assert ask(served)[0].failure == "no connection"
    assert served.notes == {"requests repeated: no connection": 1}


def test_retry_after_is_waited_for() -> None:
    with Server(lambda number, _: "<status> 429 1" if number == 0 else " fine") as server:
        begin = time.monotonic()
        assert ask(writer(server))[0].text == " fine"
        assert time.monotonic() - begin >= 1


def test_the_pauses_are_added_up() -> None:
    with Server(lambda number, _: "<status> 503" if number < 2 else " fine") as server:
        served = writer(server)
        ask(served)
    assert 0.03 <= served.waited < 0.06  # 0.01 and 0.02, each with up to 0.01 more


def test_who_asks_for_hours_is_not_asked_again() -> None:
    with Server(lambda *_: "<status> 429 7200") as server:
        assert ask(writer(server))[0].failure == "HTTP 429"
        assert len(server.asked) == 1


def test_a_question_without_an_answer_is_given_back_with_its_reason() -> None:
    with Server(lambda _, body: "<status> 500" if ": 3" in body["prompt"] else " fine") as server:
        served = writer(server, retries=2)
        found = ask(served, 8)
    assert [c.failure for c in found] == ["", "", "", "HTTP 500", "", "", "", ""]
    assert served.notes == {"requests repeated: HTTP 500": 2}
    with Server(lambda _, body: "<status> 400" if ": 3" in body["prompt"] else " fine") as server:
        served = writer(server)
        assert ask(served, 8)[3].failure.startswith("HTTP 400: ")
        assert len(server.asked) == 8, "what is refused is not asked again"


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_a_refusal_of_the_first_request_stops_the_run(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-secret")
    with Server(lambda *_: f"<status> {status}") as server:
        served = writer(server, api_key_env="TEACHER_KEY", max_in_flight=1)
        with pytest.raises(StageError, match=f"HTTP {status}") as caught:
            ask(served, 20)
        assert len(server.asked) == 1
        assert server.asked[0][1]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)
    assert "(the key)" in str(caught.value)


def test_a_server_that_answers_nothing_more_stops_the_run() -> None:
    with Server(lambda number, _: " fine" if number < 5 else "<status> 400") as server:
        served = writer(server, max_in_flight=2)
        found: list[Any] = []
        arriving = served.complete([Request(Prompt(text=str(i))) for i in range(200)], max_new_tokens=1)
        with pytest.raises(StageError, match="11 questions in a row"):
            collections.deque((found.extend(batch) for batch in arriving), maxlen=0)
        assert [c.text for c in found if not c.failure] == [" fine"] * 5
        assert len(server.asked) < 25


def test_a_refused_field_is_named_by_the_servers_own_words() -> None:
    refusal = "Unsupported parameter: 'max_tokens' is not supported with this model."
    with Server(lambda *_: f"<refuse> {refusal}") as server:
        with pytest.raises(StageError) as caught:
            ask(writer(server, max_in_flight=2), 50)
        check = check_server(ServerSpec(base_url=server.url, model="m"))
    assert refusal in str(caught.value)
    assert "field_names" in str(caught.value)
    assert refusal in check.says


def test_the_words_of_a_server_that_stays_busy_are_in_the_message() -> None:
    busy = '<raw> {"error": {"message": "quota used up"}}'
    with Server(lambda *_: busy) as server, pytest.raises(StageError, match=r"11 questions in a row.*quota used up"):
        ask(writer(server, max_in_flight=2, retries=0), 50)


def test_fields_are_renamed_left_out_and_added() -> None:
    names = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None, "stop": "stop_sequences"}
    more = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    with Server(lambda *_: " fine") as server:
        served = writer(server, field_names=names, extra_body=more)
        prompt = Prompt(text="Q: 0\nA:", stop_strings=("\nQ:",))
        list(served.complete([Request(prompt)], max_new_tokens=9, temperature=0.5))
        body, _ = server.asked[0]
    sent = {"model": "m", "max_completion_tokens": 9, "stop_sequences": ["\nQ:"], "prompt": "Q: 0\nA:"}
    assert body == sent | more


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"extra_body": {"max_tokens": 3}}, "max_tokens"),
        ({"extra_body": {"messages": []}}, "messages"),
        ({"extra_body": {"stream": True}}, "stream"),
        ({"field_names": {"seed": "model"}}, "model"),
        ({"field_names": {"seed": "stop"}}, "stop"),
        ({"field_names": {"max_tokens": "n_predict"}, "extra_body": {"n_predict": 3}}, "n_predict"),
    ],
)
def test_a_field_that_would_be_sent_twice_or_change_the_answer_is_refused(settings: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ServerSpec(base_url="http://x/v1", model="m", **settings)
    ServerSpec(base_url="http://x/v1", model="m", field_names={"max_tokens": None}, extra_body={"max_tokens": 3})


def test_an_unknown_finish_reason_is_counted() -> None:
    with Server(lambda *_: '<raw> {"choices": [{"text": " fine", "finish_reason": "tool_calls"}]}') as server:
        served = writer(server)
        (found,) = ask(served)
    assert (found.text, found.finish, found.cut, found.filtered) == (" fine", "tool_calls", False, False)
    assert served.notes["answers with the unknown finish_reason 'tool_calls', read as ended"] == 1


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    with Server(lambda *_: "<slow> fine") as server:
        ask(writer(server, max_in_flight=3), 9)
        assert server.most_in_flight == 3


def test_leaving_in_the_middle_ends_what_is_in_flight() -> None:
    with Server(lambda number, _: " fine" if number == 0 else "<hang>") as server:
        served = writer(server, timeout=30, max_in_flight=4)
        arriving = served.complete([Request(Prompt(text=str(i))) for i in range(50)], max_new_tokens=1)
        next(arriving)
        begin = time.monotonic()
        arriving.close()
        assert time.monotonic() - begin < 5


def test_a_program_with_a_running_loop_of_its_own_can_ask() -> None:
    """As in a notebook, where every cell runs inside one."""

    async def cell(server: Server) -> str:
        return str(ask(writer(server))[0].text)

    # In a thread of its own, since a browser's driver may keep a loop running in this one.
    with Server(lambda *_: " fine") as server, ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: asyncio.run(cell(server))).result() == " fine"


@pytest.mark.parametrize("value", [None, "", "a b", "sk-\n", "schlüssel"])
def test_a_key_that_is_none_is_refused_without_showing_it(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_KEY", value)
    spec = ServerSpec(base_url="http://x/v1", model="m", api_key_env="TEACHER_KEY")
    if value == "sk-\n":
        ServedWriter(spec)  # blanks at its ends are taken off
        return
    with pytest.raises(InputError, match="TEACHER_KEY") as caught:
        ServedWriter(spec)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://x/v1", "http://", "http://user:pw@x/v1", "http://x/v1?key=1", "http://x:y/v1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        ServerSpec(base_url=url, model="m")


def test_a_server_is_checked_with_one_short_request() -> None:
    with Server(lambda *_: " 4, 5") as server:
        spec = ServerSpec(base_url=server.url, model="m")
        good = check_server(spec)
        assert len(server.asked) == 1
    assert good.answers
    assert "' 4, 5'" in good.says
    bad = check_server(spec)
    assert not bad.answers
    assert "no connection" in bad.says


def problems(n: int) -> list[Problem]:
    return [Problem(f"p{i}", f"What are {i} and 1?", str(i + 1), str(i + 1)) for i in range(n)]


def right(body: dict[str, Any]) -> str:
    n = int(body["prompt"].split()[3])
    return f" {n} and 1 are {n + 1}. The answer is {n + 1}."


def test_thinking_and_finish_reasons_are_in_the_log_and_are_read_back(tmp_path: Path) -> None:
    """What was paid for is kept, and a second run asks for none of it again."""

    def behave(number: int, body: dict[str, Any]) -> str:
        n = body["messages"][-1]["content"].split()[2]
        message = {"content": f"The answer is {int(n) + 1}.", "reasoning_content": f"{n} and one more"}
        choice = {"message": message, "finish_reason": "content_filter" if n == "1" else "stop"}
        return "<raw> " + json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def run() -> Any:
        return generate_rationales(
            writer(server, protocol="chat"),
            problems(2),
            Questions(CHAT),
            log=RowLog(tmp_path / "rows.jsonl"),
            completions=completions,
            max_new_tokens=20,
        )

    completions = RowLog(tmp_path / "completions.jsonl")
    with Server(behave) as server:
        report = run()
        rows = {row["id"]: row for row in completions.rows()}
        (tmp_path / "rows.jsonl").unlink()
        assert run().reasons == report.reasons
        assert len(server.asked) == 2
    assert [rows[f"p{i}"]["thinking"] for i in range(2)] == ["0 and one more", "1 and one more"]
    assert [(rows[f"p{i}"]["finish"], rows[f"p{i}"]["filtered"]) for i in range(2)] == [
        ("stop", False),
        ("content_filter", True),
    ]
    assert report.reasons["content filter"] == 1


def test_a_log_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its rows have no thinking."""
    completions = RowLog(tmp_path / "completions.jsonl")
    with Server(lambda _, body: right(body)) as server:
        for name in ("first.jsonl", "second.jsonl"):
            report = generate_rationales(
                writer(server),
                problems(1),
                Questions(TEMPLATE),
                log=RowLog(tmp_path / name),
                completions=completions,
                max_new_tokens=20,
            )
            assert report.kept == 1
            (row,) = completions.rows()
            completions.path.unlink()
            completions.append([{k: v for k, v in row.items() if k not in ("thinking", "finish", "filtered")}])
        assert len(server.asked) == 1


def test_a_thousand_rows_with_one_request_in_ten_failing_are_all_there_and_none_twice(tmp_path: Path) -> None:
    kinds = ["<status> 500", "<status> 429", "<close>", "<raw> {", '<raw> {"choices": []}']

    def behave(number: int, body: dict[str, Any]) -> str:
        return kinds[number // 10 % len(kinds)] if number % 10 == 0 else right(body)

    log, completions = RowLog(tmp_path / "rows.jsonl"), RowLog(tmp_path / "completions.jsonl")
    with Server(behave) as server:
        report = generate_rationales(
            writer(server, max_in_flight=64, retries=8, timeout=60.0),
            problems(1000),
            Questions(TEMPLATE),
            log=log,
            completions=completions,
            max_new_tokens=20,
        )
        asked = len(server.asked)
        assert server.most_in_flight <= 64
    assert (report.kept, report.unanswered, report.reasons) == (1000, 0, {"right": 1000})
    assert Counter(row["id"] for row in log.rows()) == {f"p{i}": 1 for i in range(1000)}
    repeated = sum(n for note, n in report.notes.items() if note.startswith("requests repeated"))
    assert asked == 1000 + repeated
    assert repeated == (asked + 9) // 10
    assert report.tokens == {"sent": 7000, "written": 3000}

"""What servers of today send is read: finish reasons, parts, reasoning; anything else is an error that may pass."""

from __future__ import annotations

import datetime
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import answer

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import Prompt
from molsaki.teacher.protocol import TransientError, read_completion, read_retry_after, request_body

CHAT = ServerSpec(base_url="http://x/v1", model="m")
TEXT = ServerSpec(base_url="http://x/v1", model="m", protocol="completions")


def read(message: Any, finish: Any = "stop", spec: ServerSpec = CHAT) -> Any:
    choice = {"message": message} if spec.protocol == "chat" else dict(message)
    return read_completion(spec, json.dumps({"choices": [{**choice, "finish_reason": finish}]}).encode())


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_every_name_of_the_limit_on_tokens_counts_as_cut(finish: str) -> None:
    for spec, message in ((CHAT, {"content": "half a"}), (TEXT, {"text": "half a"})):
        found = read(message, finish, spec)
        assert (found.text, found.cut, found.filtered, found.known, found.finish) == (
            "half a",
            True,
            False,
            True,
            finish,
        )


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "recitation", "prohibited_content", "refusal"])
def test_a_content_filter_is_no_end_and_no_error(finish: str) -> None:
    for message in ({"content": "half a"}, {"content": None}, {}, None):
        found = read(message, finish)
        assert (found.text, found.cut, found.filtered) == ((message or {}).get("content") or "", False, True)
    assert read({"text": None}, finish, TEXT).filtered


@pytest.mark.parametrize("finish", ["error", "abort", "cancelled", "network_error", "insufficient_system_resource"])
def test_an_answer_that_ends_with_an_error_may_pass(finish: str) -> None:
    with pytest.raises(TransientError, match=finish):
        read({"content": "half a"}, finish)


@pytest.mark.parametrize("finish", ["stop", "eos", "end_turn", "STOP", "", None, 3])
def test_an_end_is_an_end(finish: Any) -> None:
    found = read({"content": "all"}, finish)
    assert (found.text, found.cut, found.filtered, found.known) == ("all", False, False, True)


PARTS: list[tuple[Any, str, str]] = [
    ([{"type": "text", "text": "T", "thought": True}, {"type": "text", "text": "A"}], "A", "T"),
    ("plain", "plain", ""),
    (["a", {"type": "text", "text": "b"}, {"text": "c"}], "abc", ""),
    ([{"type": "output_text", "text": "b"}, {"type": "image_url", "image_url": {"url": "x"}}], "b", ""),
    ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}], "b", "hm"),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}], "", "hm"),
    ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, "b"], "b", "hm"),
    ([{"type": "refusal", "refusal": "no"}], "no", ""),
    ([{"type": ["text"], "text": "b"}, 3, None, {"text": {"text": "c"}}], "bc", ""),
    ([], "", ""),
]


@pytest.mark.parametrize(("content", "text", "thinking"), PARTS, ids=range(len(PARTS)))
def test_content_is_read_as_text_or_parts(content: Any, text: str, thinking: str) -> None:
    found = read({"content": content})
    assert (found.text, found.thinking) == (text, thinking)


REASONING: list[tuple[dict[str, Any], str]] = [
    ({"reasoning_content": "hm"}, "hm"),
    ({"reasoning": "hm"}, "hm"),
    ({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, "hm"),
    ({"reasoning_details": [{"type": "reasoning.summary", "summary": "h"}, {"text": "m"}]}, "hm"),
    ({"thinking": "hm"}, "hm"),
    ({"reasoning_content": None, "reasoning": ""}, ""),
    ({"reasoning_content": 3}, ""),
]


@pytest.mark.parametrize(("fields", "thinking"), REASONING, ids=range(len(REASONING)))
def test_reasoning_beside_the_text_is_kept(fields: dict[str, Any], thinking: str) -> None:
    assert read({"content": "all", **fields}).thinking == thinking
    assert read({"text": "all", **fields}, spec=TEXT).thinking == thinking
    cut = read({"content": None, **fields}, "length")
    assert (cut.text, cut.thinking, cut.cut) == ("", thinking, True)


def test_null_for_text_and_missing_counts_are_read() -> None:
    assert read_completion(CHAT, answer({"messages": []}, "Well", "length")).cut
    nothing = read({"content": None}, "length")
    assert (nothing.text, nothing.cut, nothing.counted) == ("", True, False)
    assert read({"content": None, "refusal": "I cannot."}).text == "I cannot."
    usage = {"prompt_tokens": -1, "completion_tokens": True}
    hostile = read_completion(
        CHAT, json.dumps({"choices": [{"message": {"content": "\ud800"}}], "usage": usage}).encode()
    )
    assert (hostile.text, hostile.prompt_tokens, hostile.tokens) == ("?", 0, 0)


@pytest.mark.parametrize(
    ("spec", "message"), [(CHAT, None), (CHAT, {}), (CHAT, {"content": 3}), (TEXT, {"text": None}), (TEXT, {})]
)
def test_an_answer_without_text_may_pass(spec: ServerSpec, message: Any) -> None:
    with pytest.raises(TransientError, match="without text"):
        read(message, "stop", spec)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "thinking", "reasoning", "refusal"]), inner)
    ),
    max_leaves=12,
)


@given(message=JSON, finish=JSON, usage=JSON, protocol=st.sampled_from(["chat", "completions"]))
def test_any_answer_is_read_or_may_pass(
    message: Any, finish: Any, usage: Any, protocol: Literal["chat", "completions"]
) -> None:
    spec = CHAT if protocol == "chat" else TEXT
    choice = {"message": message, "text": message, "finish_reason": finish}
    try:
        found = read_completion(spec, json.dumps({"choices": [choice], "usage": usage}).encode())
    except TransientError:
        return
    assert all(isinstance(text, str) for text in (found.text, found.thinking, found.finish))
    (found.text + found.thinking + found.finish).encode()


def test_nested_parts_are_read_to_a_bounded_depth() -> None:
    nested = '[{"text": ' * 400 + '"deep"' + "}]" * 400
    assert read_completion(CHAT, f'{{"choices": [{{"message": {{"content": {nested}}}}}]}}'.encode()).text == ""


def test_a_seed_is_sent_only_when_sampling_and_stop_strings_only_where_there_are_any() -> None:
    assert request_body(TEXT, Prompt(text="x"), 1, 0.0, 5) == {
        "model": "m",
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt": "x",
    }
    body = request_body(TEXT, Prompt(text="x", stop_strings=("\nQ:",)), 1, 0.7, 5)
    assert (body["seed"], body["stop"]) == (5, ["\nQ:"])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 40, 999999999999.0),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    now = datetime.datetime(2026, 10, 21, 7, 28, tzinfo=datetime.UTC)
    assert read_retry_after(value, now) == seconds


def stream(*events: Any, end: str = "data: [DONE]\n\n", spec: ServerSpec = CHAT) -> Any:
    lines = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
    return read_completion(spec, f": a comment\n\n{lines}{end}".encode())


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields, "finish_reason": None}]}


def test_a_stream_of_events_is_the_answer_it_amounts_to() -> None:
    ended = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    thought = delta(role="assistant", content=None, reasoning_content="Six ")
    found = stream(
        thought, delta(reasoning_content="sevens."), delta(content="It is"), delta(content=" 42."), ended, usage
    )
    assert (found.text, found.thinking, found.finish) == ("It is 42.", "Six sevens.", "length")
    assert (found.prompt_tokens, found.tokens, found.counted) == (7, 3, True)
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Six sevens."}]}]
    found = stream(delta(content=parts), delta(content="It is 42."), end=f"data: {json.dumps(ended)}\n\n")
    assert (found.text, found.thinking) == ("It is 42.", "Six sevens.")
    texts = [{"choices": [{"text": text}]} for text in ("It is", " 42.")]
    assert stream(*texts, spec=TEXT).text == "It is 42."


@pytest.mark.parametrize(
    ("events", "end", "reason"),
    [
        ([delta(content="It")], "", "breaks off"),
        ([delta(content="It"), {"error": {"message": "overloaded"}}], "", "error"),
        ([delta(content="It")], "data: {\n", "not JSON"),
    ],
)
def test_a_stream_that_ends_otherwise_may_pass(events: list[Any], end: str, reason: str) -> None:
    with pytest.raises(TransientError, match=reason):
        stream(*events, end=end)


def test_a_stream_is_asked_for_where_the_recipe_says_so() -> None:
    body = request_body(CHAT.model_copy(update={"stream": True}), Prompt(text="Q"), 9, 0.0, 1)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "stream" not in request_body(CHAT, Prompt(text="Q"), 9, 0.0, 1)


@pytest.mark.parametrize("text", ["a\u2028b", "a\u0085b", "a\u000bb", "a\r\nb"])
def test_only_line_ends_of_a_stream_end_its_events(text: str) -> None:
    assert stream(delta(content=text)).text == text
    crlf = f"data: {json.dumps(delta(content='a'))}\r\n\r\ndata: [DONE]\r\n\r\n".encode()
    assert read_completion(CHAT, crlf).text == "a"

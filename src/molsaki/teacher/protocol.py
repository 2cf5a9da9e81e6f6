"""OpenAI's protocol: the JSON of a request, and the parsing of a response.

Responses are not trusted. The caller bounds their size, this module checks their form, and anything unexpected raises a
`TransientError` with a short reason that is counted. Servers differ in their names; these variants are supported:

- `finish_reason`: the end, the limit on tokens (`CUT`), a content filter (`FILTERED`), or an error (`FAILED`);
- the text: a string, a list of parts, or null with a `refusal` instead;
- reasoning beside the text: `reasoning_content`, `reasoning`, `reasoning_details`, `thinking`, or parts of the content;
- one JSON object, or a stream of events, whose pieces are put together.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import re
from dataclasses import dataclass
from typing import Any

from molsaki.config.model_spec import SentField, ServerSpec
from molsaki.encoding.prompts import Prompt

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
MAX_TOKENS = 10**9
MAX_FINISH = 40

ENDED = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete", "completed"})
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_length"})
FILTERED = frozenset(
    {"content_filter", "content_filtered", "filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"}
    | {"refusal", "sensitive", "guardrail_intervened", "moderation"}
)
FAILED = frozenset(
    {"error", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error", "insufficient_system_resource"}
    | {"engine_overloaded", "malformed_response"}
)
"""Values of `finish_reason`, in lower case. Any other value counts as an end, and is noted."""

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
_REASONING_PARTS = ("thinking", "reasoning", "summary")
_TEXT_KEYS = ("text", "thinking", "reasoning", "summary", "refusal")
_MAX_DEPTH = 4
_EVENT_STARTS = (b"data:", b"event:", b"id:", b":")
_END_OF_LINE = re.compile(r"\r\n|[\r\n]")
"""Of a stream of events; Unicode has others, which may stand in its JSON."""


class TransientError(Exception):
    """A request that failed for a temporary reason, so that it is repeated.

    Attributes:
        reason: the name that it is counted under.
        retry_after: the seconds that the server asks to wait, or None.
        words: the server's own message, for the error message.
    """

    def __init__(self, reason: str, retry_after: float | None = None, words: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.words = words


@dataclass(frozen=True, slots=True)
class ServerCompletion:
    """A completion of a server.

    Attributes:
        text: the completion.
        thinking: the reasoning that the server sent beside it.
        finish: `finish_reason` as the server sent it, shortened; empty if it sent none.
        prompt_tokens, tokens: the server's counts; 0 if it sends none.
        counted: whether it sends them.
    """

    text: str
    thinking: str
    finish: str
    prompt_tokens: int
    tokens: int
    counted: bool

    @property
    def cut(self) -> bool:
        """Whether the text ended at the limit on tokens."""
        return self.finish.lower() in CUT

    @property
    def filtered(self) -> bool:
        """Whether a content filter withheld or ended the text."""
        return self.finish.lower() in FILTERED

    @property
    def known(self) -> bool:
        """Whether `finish_reason` has a value that is listed here."""
        return self.finish.lower() in ENDED | CUT | FILTERED


def request_body(
    spec: ServerSpec, prompt: Prompt, max_new_tokens: int, temperature: float, seed: int
) -> dict[str, Any]:
    """The JSON of a request for one completion, with the recipe's `field_names` and `extra_body`."""
    fields: dict[SentField, Any] = {"max_tokens": max_new_tokens, "temperature": temperature}
    if temperature:
        fields["seed"] = seed
    if prompt.stop_strings:
        fields["stop"] = list(prompt.stop_strings)
    names: dict[SentField, str | None] = {name: name for name in fields} | spec.field_names
    body = {"model": spec.model, **{new: fields[name] for name in fields if (new := names[name]) is not None}}
    if spec.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    asked = {"messages": prompt.as_messages()} if spec.protocol == "chat" else {"prompt": prompt.text}
    return {**body, **spec.extra_body, **asked}


def read_completion(spec: ServerSpec, data: bytes) -> ServerCompletion:
    """Parse a response with status 200.

    Raises:
        TransientError: it is not a JSON object, reports an error, breaks off, or lacks a choice or its text.
    """
    try:
        value = _join_events(data, spec.protocol) if data.lstrip().startswith(_EVENT_STARTS) else json.loads(data)
    except (ValueError, RecursionError):
        raise TransientError("an answer that is not JSON") from None
    if not isinstance(value, dict):
        raise TransientError("an answer that is not an object")
    if value.get("error"):
        raise TransientError("an error with status 200", words=json.dumps(value["error"], ensure_ascii=False))
    choice = _first_choice(value)
    finish = choice.get("finish_reason")
    finish = _storable(finish)[:MAX_FINISH] if isinstance(finish, str) else ""
    if choice.get("error") or finish.lower() in FAILED:
        words = json.dumps(choice.get("error") or finish, ensure_ascii=False)
        raise TransientError(f"finish_reason {finish or 'error'}", words=words)
    text, thinking = _texts(choice, spec.protocol, filtered=finish.lower() in FILTERED)
    usage = value.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    sent, written = (n or 0 for n in counts)
    return ServerCompletion(_storable(text), _storable(thinking), finish, sent, written, None not in counts)


def read_retry_after(value: str | None, now: datetime.datetime | None = None) -> float | None:
    """The seconds to wait by a `Retry-After` header, which is a number of seconds or a date; None for anything else."""
    text = (value or "").strip()
    try:
        if text.isascii() and text.isdecimal():
            return float(text[:12])
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max(0.0, (date - (now or datetime.datetime.now(datetime.UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _join_events(data: bytes, protocol: str) -> dict[str, Any]:
    """The response that a stream of server-sent events amounts to.

    Raises:
        TransientError: the stream breaks off.
        ValueError: an event is not JSON.
    """
    pieces: dict[str, list[Any]] = {}
    finish: Any = None
    usage: Any = None
    ended = False
    for line in _END_OF_LINE.split(data.decode("utf-8", "replace")):
        event = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if event == "[DONE]":
            ended = True
        value = json.loads(event) if event and not ended else None
        if not isinstance(value, dict):
            continue
        if value.get("error"):
            return value
        usage = value.get("usage") or usage
        choice = _first_choice(value) if value.get("choices") else {}
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta") if protocol == "chat" else {"text": choice.get("text")}
        for name, piece in delta.items() if isinstance(delta, dict) else ():
            pieces.setdefault(name, []).extend(piece if isinstance(piece, list) else [] if piece is None else [piece])
    if not ended and finish is None:
        raise TransientError("an answer that breaks off")
    joined = {name: "".join(some) if all(isinstance(x, str) for x in some) else some for name, some in pieces.items()}
    message = {"role": "assistant", "content": None} | joined
    return {"choices": [{"message": message, "text": joined.get("text", ""), "finish_reason": finish}], "usage": usage}


def _first_choice(value: dict[str, Any]) -> dict[str, Any]:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise TransientError("an answer without a choice")
    return choices[0] if isinstance(choices[0], dict) else {}


def _texts(choice: dict[str, Any], protocol: str, *, filtered: bool) -> tuple[str, str]:
    """The text and the reasoning of a choice.

    The text is null if the model was still thinking at the limit on tokens, if it refuses, or if a filter withholds it.
    """
    source: Any = choice.get("message") if protocol == "chat" else choice
    source = source if isinstance(source, dict) else {}
    content = source.get("content" if protocol == "chat" else "text")
    reasoning: list[Any] = []
    if content is None and (filtered or (protocol == "chat" and source)):
        content = _plain(source.get("refusal"))
    if isinstance(content, list):
        reasoning = [part for part in content if _is_reasoning(part)]
        content = _plain([part for part in content if not _is_reasoning(part)])
    if not isinstance(content, str):
        raise TransientError("an answer without text")
    fields = (_plain(source.get(name)) for name in _REASONING)
    return content, next(filter(None, fields), _plain(reasoning))


def _is_reasoning(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return part.get("thought") is True or (isinstance(kind, str) and kind.startswith(_REASONING_PARTS))


def _plain(value: Any, depth: int = 0) -> str:
    """The text in a string, in a part of a message, or in a list of parts."""
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, dict):
        value = next(filter(None, map(value.get, _TEXT_KEYS)), "")
        return _plain(value, depth + 1)
    return "".join(_plain(part, depth + 1) for part in value) if isinstance(value, list) else ""


def _count(usage: Any, name: str) -> int | None:
    n = usage.get(name) if isinstance(usage, dict) else None
    return n if type(n) is int and 0 <= n <= MAX_TOKENS else None


def _storable(text: str) -> str:
    """The text without lone surrogates, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")

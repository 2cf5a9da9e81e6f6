"""OpenAI's protocol: what is sent for a prompt, and what is read from an answer.

Nothing that comes back is trusted: its size is bounded by the caller, its form is checked here, and whatever is not as
it should be is a `PassingError` with a short reason that can be counted.
"""

from __future__ import annotations

import datetime
import email.utils
import json
from dataclasses import dataclass
from typing import Any

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import Prompt

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
MAX_TOKENS = 10**9


class PassingError(Exception):
    """A request that came to nothing for a reason that may pass; asking again may help.

    Attributes:
        reason: what to count it as.
        retry_after: how many seconds the server asks to wait, or None.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ServerCompletion:
    """What a server wrote.

    Attributes:
        text: the completion.
        cut: it ended at the bound on tokens.
        prompt_tokens, tokens: what the server counted; 0 where it does not say.
        counted: whether it does.
    """

    text: str
    cut: bool
    prompt_tokens: int
    tokens: int
    counted: bool


def request_body(
    spec: ServerSpec, prompt: Prompt, max_new_tokens: int, temperature: float, seed: int
) -> dict[str, Any]:
    """The JSON that asks for one completion."""
    body: dict[str, Any] = {"model": spec.model, "max_tokens": max_new_tokens, "temperature": temperature}
    if temperature:
        body["seed"] = seed
    if spec.protocol == "chat":
        return {**body, "messages": prompt.as_messages()}
    return {**body, "prompt": prompt.text}


def read_completion(spec: ServerSpec, data: bytes) -> ServerCompletion:
    """Read an answer with status 200.

    Raises:
        PassingError: it is no JSON, says that there was an error, or lacks a choice or its text.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise PassingError("an answer that is no JSON") from None
    if not isinstance(value, dict) or value.get("error"):
        raise PassingError("an error with status 200" if isinstance(value, dict) else "an answer that is no object")
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise PassingError("an answer without a choice")
    choice = choices[0] if isinstance(choices[0], dict) else {}
    text = choice.get("text")
    if spec.protocol == "chat":
        message = choice.get("message")
        text = message.get("content", "") if isinstance(message, dict) else None
        # A model that says nothing, or only thinks until its tokens are used up, has null for its text.
        text = "" if isinstance(message, dict) and text is None else text
    if not isinstance(text, str):
        raise PassingError("an answer without text")
    usage = value.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    sent, written = (n or 0 for n in counts)
    return ServerCompletion(_storable(text), choice.get("finish_reason") == "length", sent, written, None not in counts)


def read_retry_after(value: str | None, now: datetime.datetime | None = None) -> float | None:
    """How many seconds a `Retry-After` header asks to wait: a number of seconds or a date; None for anything else."""
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


def _count(usage: Any, name: str) -> int | None:
    n = usage.get(name) if isinstance(usage, dict) else None
    return n if type(n) is int and 0 <= n <= MAX_TOKENS else None


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")

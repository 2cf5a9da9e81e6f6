"""Sends one request to a server with httpx2, and returns its answer or raises the reason of the failure.

Answers are bounded in size and requests in time. Redirects are not followed, so the key is sent to the recipe's address
only.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ServerSpec
from molsaki.errors import InputError
from molsaki.teacher.protocol import PATHS, ServerCompletion, TransientError, read_completion, read_retry_after

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

MAX_ANSWER_BYTES = 8 << 20
"""The limit on an answer's size, far above that of any rationale; a longer one is not read to its end."""
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
"""Statuses of temporary failures, besides 5xx."""
SHOWN = 300
"""The number of characters of the server's own message that an error shows."""


class RefusedError(Exception):
    """A request that the server refuses, so that repeating it would not help.

    Attributes:
        status: the HTTP status.
        words: the server's message.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Transport:
    """Sends requests to a server.

    Args:
        spec: the server; the key is read from the environment and kept in memory only.

    Raises:
        InputError: the environment variable of the key is not set or holds no key.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._url = spec.base_url + PATHS[spec.protocol]
        self._key = _read_key(spec)

    def client(self) -> AsyncClient:
        """A client for `ask`, to be closed by the caller."""
        import httpx2

        headers = {"Accept-Encoding": "identity", "User-Agent": "molsaki"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        bound = self.spec.max_in_flight
        return httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self.spec.timeout, pool=None),
            limits=httpx2.Limits(max_connections=bound, max_keepalive_connections=bound),
            follow_redirects=False,
        )

    async def ask(self, client: AsyncClient, body: dict[str, Any]) -> ServerCompletion:
        """Send one request.

        Raises:
            TransientError: it failed for a temporary reason.
            RefusedError: the server refuses it.
        """
        import httpx2

        try:
            async with (
                asyncio.timeout(self.spec.timeout),
                client.stream("POST", self._url, json=body) as response,
            ):
                data = await _read_body(response)
        except (TimeoutError, httpx2.TimeoutException):
            raise TransientError("no answer in time") from None
        except httpx2.ConnectError:
            raise TransientError("no connection") from None
        except httpx2.RequestError:
            raise TransientError("the connection ended in the middle") from None
        status = response.status_code
        if status in TRANSIENT_STATUSES or status >= 500:
            retry_after = read_retry_after(response.headers.get("retry-after"))
            raise TransientError(f"HTTP {status}", retry_after, self._words(data))
        if status != 200:
            raise RefusedError(status, self._words(data))
        try:
            return read_completion(self.spec, data)
        except TransientError as error:
            error.words = self._words(error.words.encode())
            raise

    def _words(self, data: bytes) -> str:
        """The beginning of the server's message on one line, without the key, which some servers repeat."""
        text = _message(data)
        if self._key:
            text = text.replace(self._key, "(the key)")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SHOWN]


async def _read_body(response: Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise TransientError(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MB")
    return bytes(data)


def _message(data: bytes) -> str:
    """The `message` of an error as servers send it, or the whole text."""
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and isinstance(value.get(name), dict | str):
            value = value[name]
    return value if isinstance(value, str) else text


def _read_key(spec: ServerSpec) -> str:
    if spec.api_key_env is None:
        return ""
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"Expected the environment variable {spec.api_key_env} to hold the key for {spec.base_url}; it "
            f"{'holds text that cannot be a key' if key else 'is not set or empty'}. Nothing was sent. Set it, "
            "or leave `api_key_env` out for a server that needs no key."
        )
    return key

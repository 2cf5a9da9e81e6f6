"""A teacher behind a server that speaks OpenAI's protocol.

At most `max_in_flight` requests are open at a time. A request that fails for a reason that may pass is repeated with
growing pauses, or after the pause that the server asks for with `Retry-After`. Completions are yielded as they arrive.
A question without a completion in the end is yielded too, with the reason, so that it is counted, and the next run
asks it again. An error that every request would get (a refused key, a wrong address) stops the run at once.

The `openai` client is not used: it does not repeat answers with status 200 that hold no completion, has no limit on a
request's total time, gives up at a `Retry-After` above 120 s, does not count its repeats, and sends the environment's
OPENAI_ORG_ID to any server; with our own loop for these around it, nothing here could be deleted.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import InputError, RecipeError, StageError
from molsaki.models.decode import Completion
from molsaki.teacher.protocol import (
    PATHS,
    PassingError,
    ServerCompletion,
    read_completion,
    read_retry_after,
    request_body,
)
from molsaki.teacher.writer import Request

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from tenacity import RetryCallState

MAX_ANSWER_BYTES = 8 << 20
"""A longer answer is not read to its end: no rationale is that long."""
MAX_RETRY_AFTER = 600.0
"""Who asks for a longer pause is not asked again in this run, in seconds."""
LONGEST_PAUSE = 60.0
FIRST_PAUSE = 0.5
"""The pauses between repeats double from the first to the longest, in seconds, each with a random part."""
PASSING = frozenset({408, 409, 425, 429})
"""Statuses that may pass, beside 5xx."""
HOPELESS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that every request will get, where the first got it."""
SHOWN = 300
"""How many characters of a server's own words an error shows."""


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """Whether a server answers.

    Attributes:
        answers: it completed a short prompt.
        says: in a line, what came back, or why nothing did.
        seconds: how long that took.
    """

    answers: bool
    says: str
    seconds: float


class _RefusedError(Exception):
    """A request that the server refuses for good."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class ServedWriter:
    """Asks a server for completions.

    Args:
        spec: the server; the key is read from the environment here, and kept nowhere else.
        first_pause: the pause before the first repeat, in seconds.

    Attributes:
        notes: how many requests were repeated, by reason.
        waited: the seconds that requests paused before they were repeated, all added up.

    Raises:
        InputError: the environment variable of the key is not set or holds no key.
    """

    def __init__(self, spec: ServerSpec, first_pause: float = FIRST_PAUSE) -> None:
        self.spec = spec
        self.notes: Counter[str] = Counter()
        self.waited = 0.0
        self._key = _read_key(spec)
        self._first_pause = first_pause
        self._answered = 0
        self._failed_in_a_row = 0

    def require(self, template: PromptTemplate) -> None:
        """Raise a `RecipeError` for a chat where the server is sent text, since turns are no text."""
        if template.is_chat and self.spec.protocol == "completions":
            raise RecipeError(
                f"Expected a prompt that is text for a server with `protocol: completions`; got one with turns: "
                f"{str(template)[:100]!r}. Nothing was asked; use `protocol: chat`, or a prompt without [user] and "
                "[assistant] turns."
            )

    def show(self, prompt: Prompt) -> str:
        """The text that is sent, or the turns as JSON, which the server renders with its model's chat template."""
        if self.spec.protocol == "chat":
            return json.dumps(prompt.as_messages(), ensure_ascii=False, indent=2)
        return prompt.text

    def complete(
        self, requests: Sequence[Request], *, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[list[Completion]]:
        """Yield completions as they arrive, all that are there at a time.

        Raises:
            StageError: the server refuses every request, or does not answer any more; what was answered before has
                been yielded.
        """
        if not requests:
            return
        bodies = [request_body(self.spec, r.prompt, max_new_tokens, temperature, r.seed) for r in requests]
        arrived: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        with _thread_of(self._ask_all(bodies, arrived), arrived) as asking:
            open_ = True
            while open_:
                batch = [arrived.get()]
                while not arrived.empty():
                    batch.append(arrived.get())
                open_ = None not in batch
                completions = [completion for completion in batch if completion is not None]
                if completions:
                    yield completions
            asking.result()

    async def _ask_all(self, bodies: Sequence[dict[str, Any]], arrived: queue.SimpleQueue[Completion | None]) -> None:
        waiting = iter(enumerate(bodies))

        async def work(client: AsyncClient) -> None:
            for index, body in waiting:
                arrived.put(await self._complete(client, index, body))

        async with self._client() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.spec.max_in_flight, len(bodies)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _complete(self, client: AsyncClient, index: int, body: dict[str, Any]) -> Completion:
        try:
            answer = await self._ask_until_answered(client, body)
        except PassingError as error:
            return self._failure(index, error.reason, error.reason)
        except _RefusedError as error:
            if error.status in HOPELESS and not self._answered:
                raise self._stop(f"HTTP {error.status}: {error.words}") from None
            return self._failure(index, f"HTTP {error.status}", error.words)
        self._answered += 1
        self._failed_in_a_row = 0
        if not answer.counted:
            self.notes["answers without a count of tokens"] += 1
        return Completion(index, answer.text, answer.tokens, answer.cut, prompt_tokens=answer.prompt_tokens)

    def _failure(self, index: int, reason: str, words: str) -> Completion:
        self._failed_in_a_row += 1
        if self._failed_in_a_row > max(10, 2 * self.spec.max_in_flight):
            raise self._stop(f"{self._failed_in_a_row} questions in a row came to nothing, the last with: {words}")
        return Completion(index, "", 0, cut=False, failure=reason)

    def _stop(self, what: str) -> StageError:
        return StageError(
            f"Expected {self.spec.name} to answer; it does not ({what}). What it answered before is kept; see to the "
            "server, its address, the model's name and the key, and run the same command again to go on."
        )

    async def _ask_until_answered(self, client: AsyncClient, body: dict[str, Any]) -> ServerCompletion:
        import tenacity

        growing = tenacity.wait_exponential(multiplier=self._first_pause, max=LONGEST_PAUSE)
        some_more = tenacity.wait_random(0, self._first_pause)

        def may_pass(error: BaseException) -> bool:
            return isinstance(error, PassingError) and (error.retry_after or 0.0) <= MAX_RETRY_AFTER

        def pause(state: RetryCallState) -> float:
            return max(growing(state) + some_more(state), _error_of(state).retry_after or 0.0)

        def count(state: RetryCallState) -> None:
            self.notes[f"requests repeated: {_error_of(state).reason}"] += 1
            self.waited += state.next_action.sleep if state.next_action is not None else 0.0

        repeating = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.spec.retries + 1),
            wait=pause,
            retry=tenacity.retry_if_exception(may_pass),
            before_sleep=count,
            reraise=True,
        )
        answer: ServerCompletion = await repeating(self._ask, client, body)
        return answer

    async def _ask(self, client: AsyncClient, body: dict[str, Any]) -> ServerCompletion:
        """Send one request.

        Raises:
            PassingError: it came to nothing for a reason that may pass.
            _RefusedError: the server refuses it.
        """
        import httpx2

        try:
            async with (
                asyncio.timeout(self.spec.timeout),
                client.stream("POST", self.spec.base_url + PATHS[self.spec.protocol], json=body) as response,
            ):
                data = bytearray()
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise PassingError(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MB")
        except (TimeoutError, httpx2.TimeoutException):
            raise PassingError("no answer in time") from None
        except httpx2.ConnectError:
            raise PassingError("no connection") from None
        except httpx2.RequestError:
            raise PassingError("the connection ended in the middle") from None
        status = response.status_code
        if status in PASSING or status >= 500:
            raise PassingError(f"HTTP {status}", read_retry_after(response.headers.get("retry-after")))
        if status != 200:
            raise _RefusedError(status, self._words(bytes(data)))
        return read_completion(self.spec, bytes(data))

    def _words(self, data: bytes) -> str:
        """The beginning of what a server says, on one line, without the key, which some repeat."""
        text = data.decode("utf-8", "replace")
        if self._key:
            text = text.replace(self._key, "(the key)")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SHOWN] or "no words"

    def _client(self) -> AsyncClient:
        import httpx2

        headers = {"Accept-Encoding": "identity", "User-Agent": "molsaki"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        bound = self.spec.max_in_flight
        return httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self.spec.timeout, pool=None),
            limits=httpx2.Limits(max_connections=bound, max_keepalive_connections=bound),
        )


def check_server(spec: ServerSpec, timeout: float = 30.0) -> ServerCheck:
    """Ask a server for a few tokens, once, to see that address, model, protocol and key are right.

    Args:
        spec: the server.
        timeout: how many seconds to wait at most.

    Raises:
        InputError: the environment variable of the key is not set or holds no key.
    """
    once = spec.model_copy(update={"retries": 0, "timeout": min(timeout, spec.timeout)})
    writer = ServedWriter(once)
    begin = time.monotonic()
    try:
        (batch,) = writer.complete([Request(Prompt(text="1, 2, 3,"))], max_new_tokens=4)
    except StageError as error:
        return ServerCheck(False, str(error), time.monotonic() - begin)
    seconds = time.monotonic() - begin
    if batch[0].failure:
        return ServerCheck(False, f"{spec.name} does not answer: {batch[0].failure}", seconds)
    return ServerCheck(True, f"{spec.name} answers: {batch[0].text[:60]!r}", seconds)


def _error_of(state: RetryCallState) -> PassingError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, PassingError)
    return error


def _read_key(spec: ServerSpec) -> str:
    if spec.api_key_env is None:
        return ""
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"Expected the environment variable {spec.api_key_env} to hold the key for {spec.base_url}; it "
            f"{'holds something that cannot be one' if key else 'is not set or empty'}. Nothing was asked; set it, or "
            "leave `api_key_env` out for a server that needs no key."
        )
    return key


@contextmanager
def _thread_of(
    work: Coroutine[Any, Any, None], arrived: queue.SimpleQueue[Completion | None]
) -> Iterator[Future[None]]:
    """Run a coroutine in a thread of its own, put None behind what it has put, and stop it when the context is left.

    So requests go on while the rows that arrived are judged and written, and a program that has an event loop of its
    own, such as a notebook, is not in the way.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="molsaki-teacher", daemon=True)
    thread.start()
    future: Future[None] = asyncio.run_coroutine_threadsafe(work, loop)
    future.add_done_callback(lambda _: arrived.put(None))
    try:
        yield future
    finally:
        future.cancel()
        # All in that thread: where the caller has a loop that runs, this one cannot be run from here.
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

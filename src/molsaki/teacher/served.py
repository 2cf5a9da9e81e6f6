"""A teacher behind a server that speaks OpenAI's protocol.

At most `max_in_flight` requests are open at a time. A request that fails for a temporary reason is repeated with
growing pauses, or after the pause in the server's `Retry-After`. Completions are yielded as they arrive. A question
that never gets a completion is yielded too, with the reason, so that it is counted; the next run asks it again. An
error that every request would get (a refused key, a wrong path) stops the run at once; a server that cannot be reached
stops it after `max(10, 2·max_in_flight)` questions in a row without an answer, each with its repeats.

The `openai` client is not used: it does not repeat answers with status 200 that hold no completion, has no limit on a
request's total time, gives up at a `Retry-After` above 120 s, does not count its repeats, and sends the environment's
OPENAI_ORG_ID to any server; with our own loop for these around it, nothing here could be deleted.
"""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ServerSpec
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import RecipeError, StageError
from molsaki.models.decode import Completion
from molsaki.teacher.background import background_thread
from molsaki.teacher.protocol import ServerCompletion, TransientError, request_body
from molsaki.teacher.transport import RefusedError, Transport
from molsaki.teacher.writer import Request

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from tenacity import RetryCallState

MAX_RETRY_AFTER = 600.0
"""A request is not repeated in this run if the server asks for a longer pause, in seconds."""
MAX_PAUSE = 60.0
FIRST_PAUSE = 0.5
"""Pauses between repeats double from the first to the longest, in seconds, plus a random part."""
PERMANENT_STATUSES = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that every request gets once one request gets them."""


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The result of checking a server.

    Attributes:
        answers: whether it completed a short prompt.
        says: the completion, or the reason of the failure, on one line.
        seconds: the time it took.
    """

    answers: bool
    says: str
    seconds: float


class ServedWriter:
    """Asks a server for completions.

    Args:
        spec: the server; the key is read from the environment and kept in memory only.
        first_pause: the pause before the first repeat, in seconds.

    Attributes:
        notes: the number of repeated requests by reason, and of answers with missing or unexpected fields.
        waited: the seconds of all pauses before repeats, summed over requests.

    Raises:
        InputError: the environment variable of the key is not set or holds no key.
    """

    def __init__(self, spec: ServerSpec, first_pause: float = FIRST_PAUSE) -> None:
        self.spec = spec
        self.notes: Counter[str] = Counter()
        self.waited = 0.0
        self._transport = Transport(spec)
        self._first_pause = first_pause
        self._answered = 0
        self._failed_in_a_row = 0
        self._first_words: dict[int, str] = {}

    def require(self, template: PromptTemplate) -> None:
        """Raise a `RecipeError` for a chat if the protocol is `completions`, which sends text."""
        if template.is_chat and self.spec.protocol == "completions":
            raise RecipeError(
                f"Expected a text prompt for a server with `protocol: completions`; got a chat: "
                f"{str(template)[:100]!r}. Nothing was sent. Use `protocol: chat`, or a prompt without [user] and "
                "[assistant] turns."
            )

    def show(self, prompt: Prompt) -> str:
        """The text that is sent, or the turns as JSON; the server renders them with its model's chat template."""
        if self.spec.protocol == "chat":
            return json.dumps(prompt.as_messages(), ensure_ascii=False, indent=2)
        return prompt.text

    def complete(
        self, requests: Sequence[Request], *, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[list[Completion]]:
        """Yield completions as they arrive.

        Raises:
            StageError: the server refuses every request or stops answering. Completions that arrived earlier have
                been yielded.
        """
        if not requests:
            return
        bodies = [request_body(self.spec, r.prompt, max_new_tokens, temperature, r.seed) for r in requests]
        arrived: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        with background_thread(self._ask_all(bodies, arrived), arrived) as asking:
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

        async with self._transport.client() as client:
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
        except TransientError as error:
            return self._failure(index, error.reason, error.words)
        except RefusedError as error:
            if error.status in PERMANENT_STATUSES and not self._answered:
                raise self._stop(f"HTTP {error.status}: {error.words}") from None
            # Count a status under its first message: many messages name the question and would each be counted alone.
            words = self._first_words.setdefault(error.status, error.words)
            return self._failure(index, f"HTTP {error.status}" + (f": {words}" if words else ""), "")
        self._answered += 1
        self._failed_in_a_row = 0
        self._note(answer)
        return Completion(
            index,
            answer.text,
            answer.tokens,
            answer.cut,
            prompt_tokens=answer.prompt_tokens,
            thinking=answer.thinking,
            finish=answer.finish,
            filtered=answer.filtered,
        )

    def _note(self, answer: ServerCompletion) -> None:
        if not answer.counted:
            self.notes["answers without a count of tokens"] += 1
        if not answer.known:
            self.notes[f"answers with the unknown finish_reason {answer.finish!r}, read as ended"] += 1

    def _failure(self, index: int, reason: str, words: str) -> Completion:
        self._failed_in_a_row += 1
        if self._failed_in_a_row > max(10, 2 * self.spec.max_in_flight):
            last = f"{reason}: {words}" if words else reason
            raise self._stop(f"{self._failed_in_a_row} questions in a row failed, the last with: {last}")
        return Completion(index, "", 0, cut=False, failure=reason)

    def _stop(self, what: str) -> StageError:
        return StageError(
            f"Expected {self.spec.name} to answer; it does not ({what}). Completions that arrived before are kept. "
            "Check the server, its address, the model's name and the key; if it refuses a field of the request, rename "
            "it or leave it out with `field_names`. Then run the same command again to go on."
        )

    async def _ask_until_answered(self, client: AsyncClient, body: dict[str, Any]) -> ServerCompletion:
        import tenacity

        growing = tenacity.wait_exponential(multiplier=self._first_pause, max=MAX_PAUSE)
        some_more = tenacity.wait_random(0, self._first_pause)

        def may_pass(error: BaseException) -> bool:
            return isinstance(error, TransientError) and (error.retry_after or 0.0) <= MAX_RETRY_AFTER

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
        answer: ServerCompletion = await repeating(self._transport.ask, client, body)
        return answer


def check_server(spec: ServerSpec) -> ServerCheck:
    """Ask a server once for a few tokens, to check address, model, protocol and key. Waits at most 30 seconds.

    Raises:
        InputError: the environment variable of the key is not set or holds no key.
    """
    once = spec.model_copy(update={"retries": 0, "timeout": min(30.0, spec.timeout)})
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


def _error_of(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, TransientError)
    return error

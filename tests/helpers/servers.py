"""A server that speaks OpenAI's protocol and misbehaves on request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers with what `behave` says of each request: a name of what to do, or the text to answer with.

    Attributes:
        asked: bodies and headers, in the order they came.
        most_in_flight: the most requests that were there at a time.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, behave: Callable[[int, dict[str, Any]], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave = behave
        self.asked: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0
        self.end = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append((body, dict(self.headers.items())))
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            self._answer(self.server.behave(number, body), body)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def _answer(self, what: str, body: dict[str, Any]) -> None:
        name, _, argument = what.partition(" ")
        if what.startswith("<status>"):
            _, status, *retry_after = what.split()
            after = {"Retry-After": " ".join(retry_after)} if retry_after else {}
            self._send(int(status), b'{"error": {"message": "no: sk-secret"}}', after)
        elif name == "<refuse>":
            self._send(400, json.dumps({"error": {"message": argument}}).encode())
        elif name == "<slow>":
            time.sleep(0.2)
            self._send(200, answer(body, argument))
        elif name == "<hang>":
            self.server.end.wait(20)
            self.close_connection = True
        elif name == "<drip>":
            self._start(200, 10_000)
            while not self.server.end.wait(0.05):
                self.wfile.write(b" ")
        elif name == "<close>":
            self._start(200, 1000)
            self.wfile.write(b'{"choices": [{"te')
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif name == "<huge>":
            self._start(200, 1 << 30)
            for _ in range(1 << 14):
                self.wfile.write(b" " * (1 << 16))
        elif name == "<raw>":
            self._send(200, argument.encode())
        else:
            self._send(200, answer(body, what))

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._start(status, len(data), headers)
        self.wfile.write(data)

    def _start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()


def answer(body: dict[str, Any], text: str, finish: str = "stop") -> bytes:
    """An answer as the protocol has it."""
    choice = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, **choice}], "usage": usage}).encode()

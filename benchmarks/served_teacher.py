"""The pocket teacher asked in three ways: here, behind `transformers serve`, and behind llama.cpp's server.

    pip install 'transformers[serving]' gguf xllamacpp
    python benchmarks/served_teacher.py

starts both servers, asks all three the same questions greedily, and prints how many texts are the same and what was
kept. Then it asks llama.cpp for more rows with many requests in flight, through a proxy that fails every tenth
request, and prints how long that took beside a run without failures, and that every row is there once.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from molsaki.config.model_spec import ServerSpec
from molsaki.data import load_problems
from molsaki.data.pocket import TEACHER
from molsaki.encoding.prompts import TEACHER as TEACHER_PROMPT
from molsaki.encoding.prompts import PromptTemplate
from molsaki.records import Problem
from molsaki.stages.generate import generate_rationales
from molsaki.store.row_log import RowLog
from molsaki.teacher.local import LocalWriter
from molsaki.teacher.rationales import GenerationReport
from molsaki.teacher.requests import Questions
from molsaki.teacher.served import ServedWriter, check_server
from molsaki.teacher.writer import Writer

MAX_NEW_TOKENS = 128
PATIENCE = 300
LLAMA = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.n_ctx, params.n_parallel = 512 * int(sys.argv[3]), int(sys.argv[3])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[4])
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], spec: ServerSpec) -> Iterator[None]:
    """A server's process, from when it answers until the context is left."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)  # noqa: S603 (our own command)
        try:
            end = time.monotonic() + PATIENCE
            while not check_server(spec).answers:
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    raise SystemExit(f"{spec.name} does not answer:\n{said.read()[-3000:]}")
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait(30)


def ask(writer: Writer, problems: list[Problem], folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The texts and what became of each problem, by id."""
    log, completions = RowLog(folder / "rationales.jsonl"), RowLog(folder / "completions.jsonl")
    generate(writer, problems, log, completions)
    return (
        {row["id"]: row["text"] for row in completions.rows()},
        {row["id"]: (row["kept"], row["reason"]) for row in log.rows()},
    )


def generate(writer: Writer, problems: list[Problem], log: RowLog, completions: RowLog) -> GenerationReport:
    """Rationales in the pocket teacher's own prompt."""
    return generate_rationales(
        writer,
        problems,
        Questions(PromptTemplate.parse(TEACHER_PROMPT)),
        log=log,
        completions=completions,
        max_new_tokens=MAX_NEW_TOKENS,
    )


class Proxy(ThreadingHTTPServer):
    """Passes requests on, every tenth of them to nowhere."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, failing: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.port, self.failing = port, failing
        self.numbers = itertools.count()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Passing(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        """Pass one request on, or fail it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.failing and next(self.server.numbers) % 10 == 0:
            self._send(500, b"{}")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        self._send(response.status, response.read())
        connection.close()

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def many(port: int, rows: int, failing: bool, folder: Path) -> None:
    """Ask for many rows with 64 requests in flight and print what became of them."""
    problems = list(load_problems("pocket-math", split="train:3", limit=rows).problems)
    proxy = Proxy(port, failing)
    spec = ServerSpec(
        base_url=f"http://127.0.0.1:{proxy.server_address[1]}/v1",
        model="pocket",
        protocol="completions",
        max_in_flight=64,
        timeout=600,
    )
    log, completions = RowLog(folder / "rationales.jsonl"), RowLog(folder / "completions.jsonl")
    writer = ServedWriter(spec)
    begin = time.monotonic()
    report = generate(writer, problems, log, completions)
    seconds = time.monotonic() - begin
    proxy.shutdown()
    proxy.server_close()
    ids = Counter(row["id"] for row in log.rows())
    what = "one request in ten failing" if failing else "no failures"
    print(
        f"{rows} rows, 64 in flight, {what}: {seconds:.1f} s; {len(ids)} rows there, "
        f"{sum(n > 1 for n in ids.values())} twice, {report.unanswered} without an answer, {report.kept} kept"
    )
    for note, n in report.notes.items():
        print(
            f"  {note}: {n}; they paused {writer.waited:.1f} s in all, {writer.waited / 64:.1f} s a place", flush=True
        )


def main() -> None:
    """Start the servers, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200, help="word problems, and half as many with choices")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the run with failures; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=2, help="runs with and without failures, in turns")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    from pocket_gguf import write_gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    problems = [
        *load_problems("pocket-math", split="test", limit=arguments.questions).problems,
        *load_problems("pocket-commonsense", split="test", limit=max(1, arguments.questions // 2)).problems,
    ]
    folder = Path(tempfile.mkdtemp(prefix="served-teacher-"))
    write_gguf(folder / "teacher.gguf")
    python, threads = sys.executable, str(arguments.threads)
    os.environ["OMP_NUM_THREADS"] = threads
    ports = [free_port(), free_port()]
    serve = "from transformers.cli.transformers import main; main()"
    commands = {
        "transformers serve": [python, "-c", serve, "serve", str(TEACHER), "--port", str(ports[0]), "--device", "cpu"],
        "llama.cpp": [python, "-c", LLAMA, str(folder / "teacher.gguf"), str(ports[1]), "16", threads],
    }
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TEACHER), AutoTokenizer.from_pretrained(TEACHER)
    begin = time.monotonic()
    here, results = ask(LocalWriter(model, tokenizer, 64), problems, folder / "here")
    print(f"here: {len(here)} texts in {time.monotonic() - begin:.1f} s, {sum(k for k, _ in results.values())} kept")
    for (name, command), port in zip(commands.items(), ports, strict=True):
        url = f"http://127.0.0.1:{port}/v1"
        spec = ServerSpec(base_url=url, model=str(TEACHER), protocol="completions", timeout=300, max_in_flight=16)
        with running(command, spec):
            begin = time.monotonic()
            texts, found = ask(ServedWriter(spec), problems, folder / name.replace(" ", "-"))
            seconds = time.monotonic() - begin
            same = sum(texts.get(row_id) == text for row_id, text in here.items())
            alike = sum(found.get(row_id) == result for row_id, result in results.items())
            print(
                f"{name}: {len(texts)} texts in {seconds:.1f} s, {sum(k for k, _ in found.values())} kept; "
                f"the same text as here for {same} of {len(here)} ({100 * same / len(here):.1f} %), "
                f"the same result for {alike}",
                flush=True,
            )
            if name == "llama.cpp" and arguments.rows:
                for turn in range(2 * arguments.repeats):
                    many(port, arguments.rows, bool(turn % 2), folder / f"many-{turn}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

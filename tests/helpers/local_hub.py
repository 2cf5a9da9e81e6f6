"""A data set hub on this machine: the few calls of huggingface_hub that push and pull need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class LocalHub(ThreadingHTTPServer):
    """Keeps the files of data sets in memory.

    Attributes:
        files: content by data set and file name.
        sizes: sizes that the hub claims in place of the true ones.
        asked: methods and paths of all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str) -> str:
        parts = [f"{path}:{hashlib.sha1(data).hexdigest()}" for path, data in sorted(self.files[name].items())]  # noqa: S324
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()  # noqa: S324

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.server.files.setdefault(name, {})
            self._answer({"url": f"{self.server.url}/datasets/{name}", "name": name})
        elif path == ["api", "validate-yaml"]:
            self._answer({"errors": [], "warnings": []})
        elif path[4:5] == ["preupload"]:
            files = [{**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            self._answer({"files": files})
        elif path[4:5] == ["commit"]:
            name = "/".join(path[2:4])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = self.server.commit(name)
            self._answer({"commitUrl": f"{self.server.url}/datasets/{name}/commit/{oid}", "commitOid": oid})
        else:
            self._answer({"error": "not here"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        name = "/".join(path[2:4] if path[0] == "api" else path[1:3])
        files = self.server.files.get(name)
        if files is None:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif path[:2] == ["api", "datasets"] and path[4:5] in ([], ["revision"]):
            siblings = [{"rfilename": one, "size": self.server.sizes.get(one, len(files[one]))} for one in files]
            self._answer({"id": name, "sha": self.server.commit(name), "siblings": siblings})
        elif path[:2] == ["api", "datasets"] and path[4:5] == ["tree"]:
            entries = [
                {"type": "file", "path": one, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324
                for one, data in files.items()
            ]
            self._answer(entries)
        elif path[0] == "datasets" and path[3] == "resolve" and "/".join(path[5:]) in files:
            data = files["/".join(path[5:])]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.server.commit(name)}  # noqa: S324
            self._send(data, 200, headers)
        else:
            self._answer({"error": "not here"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _path(self) -> list[str]:
        self.server.asked.append(f"{self.command} {self.path}")
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _answer(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), code, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

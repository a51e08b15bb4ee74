"""A model hub on loopback, serving one model as far as the hub's client looks at it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """What to serve and how to misbehave; requests are kept as (method, path, range)."""

    def __init__(self, model_id: str, files: dict[str, bytes]) -> None:
        self.model_id = model_id
        self.files = files
        self.requests: list[tuple[str, str, str | None]] = []
        self.status: int | None = None
        """Answer everything with this status and error_code."""
        self.error_code = ""
        self.cut_after: dict[str, int] = {}
        """File name -> bytes after which its connection breaks, once."""
        self.hold_after: dict[str, int] = {}
        """File name -> bytes after which sending waits for go_on."""
        self.go_on = threading.Event()
        self.url = ""

    def fetched(self) -> set[str]:
        """Names of the files whose content was asked for."""
        return {path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET"} & (
            self.files.keys()
        )

    def ranges(self) -> list[str]:
        return [asked for _, _, asked in self.requests if asked]

    def listing(self) -> bytes:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": etag(content)}
            for name, content in self.files.items()
        ]
        return json.dumps(
            {"id": self.model_id, "modelId": self.model_id, "sha": COMMIT, "siblings": siblings}
        ).encode()


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class _Server(ThreadingHTTPServer):
    hub: FakeHub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return cast(_Server, self.server).hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers["Range"]))
        if self.hub.status is not None:
            self._send(self.hub.status, b"", {"X-Error-Code": self.hub.error_code}, with_body)
        elif path.startswith(f"/api/models/{self.hub.model_id}"):
            self._send(200, self.hub.listing(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(f"/{self.hub.model_id}/resolve/"):
            self._send_file(path.rsplit("/", 1)[1], with_body)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _send_file(self, name: str, with_body: bool) -> None:
        content = self.hub.files.get(name)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
            return
        headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT}
        start = 0
        if asked := self.headers["Range"]:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers, with_body, name)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], with_body: bool, name: str = ""
    ) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body:
            return
        if name in self.hub.cut_after:
            self.wfile.write(body[: self.hub.cut_after.pop(name)])
            self.close_connection = True
            return
        held = self.hub.hold_after.get(name, len(body))
        self.wfile.write(body[:held])
        self.wfile.flush()
        if held < len(body):
            self.hub.go_on.wait()
            self.wfile.write(body[held:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = hub
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

"""A client library in a process of its own, told what to call in lines of JSON.

A call is {"do", "server", "file", "as", "started", "fields"}; its outcome is {"value"}, {"events"}
or {"error"}, with "attempts": what was sent and answered, one entry for every HTTP request.
"""

import json
import os
import selectors
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ANSWER_LIMIT = 120.0
"""Seconds after which a call counts as hung."""


class Driver:
    """One client. Made once, used for many calls; `close` ends it."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        self._busy = threading.Lock()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
            )

    def __repr__(self) -> str:
        return f"<Driver {self.name}>"

    def call(
        self,
        do: str,
        port: int,
        file: Path | None = None,
        *,
        file_as: str = "stream",
        key: str = "any",
        max_retries: int = 0,
        started: Path | None = None,
        **fields: object,
    ) -> dict[str, Any]:
        """What came of it. A file goes as an open `stream` or as `bytes`; `started` is made at the
        first event of a stream.
        """
        server = {"url": f"http://127.0.0.1:{port}/v1", "key": key, "max_retries": max_retries}
        call = {"do": do, "server": server, "file": file and str(file), "as": file_as}
        call["started"] = started and str(started)
        with self._busy:
            outcome: dict[str, Any] = json.loads(self._ask(json.dumps({**call, "fields": fields})))
        assert "fault" not in outcome, outcome["fault"]
        return outcome

    def value(self, do: str, port: int, file: Path | None = None, **fields: Any) -> Any:
        """What the client returned, where it has to succeed."""
        outcome = self.call(do, port, file, **fields)
        assert "value" in outcome, outcome
        return outcome["value"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, line: str) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            answered = selector.select(ANSWER_LIMIT)
        assert answered, f"{self.name} did not answer: {line}"
        answer = self._process.stdout.readline()
        assert answer, f"{self.name} died: {self._log.read_text()}"
        return answer

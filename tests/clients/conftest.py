"""Clients in environments of their own, and the servers they call."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile

from tests.clients.drivers import Driver
from tests.clients.environments import HERE, Environments, NotAvailable
from tests.speech import SAMPLE_RATE, Samples
from tests.together.processes import REPOSITORY, Server, eventually, serving

SDKS = ("openai_python_3", "openai_python_1", "openai_node_7")
MORE_SDKS = ("openai_python_2", "openai_node_6")
AI_SDKS = ("ai_sdk_4",)
MORE_AI_SDKS = ("ai_sdk_3",)
"""Clients by library and its major version (of the AI SDK, that of its provider for OpenAI)."""

VOICE_AGENTS = ("livekit_stt_1", "pipecat_stt_1")

SPEECH = REPOSITORY / "examples" / "speech"
CLIP = SPEECH / "digits_american.flac"
CALL = SPEECH / "call_stereo.flac"
LONG = SPEECH / "digits_long.flac"
SILENCE = SPEECH / "silence.flac"
SAID: dict[str, str] = {
    clip["file"]: clip["said"][0] for clip in json.loads((SPEECH / "clips.json").read_text())
}
"""By clip; of a call, what its first channel says."""
TURN = "digits_american.flac"
"""A clip of one turn."""

KEY = "sk-of-the-strict-server"


def clip(name: str) -> Samples:
    """Its samples."""
    samples, rate = soundfile.read(SPEECH / name, dtype="float32")
    assert rate == SAMPLE_RATE
    return np.asarray(samples)


class Clients:
    """Starts each client once."""

    def __init__(self, logs: Path, stack: ExitStack) -> None:
        self._logs = logs
        self._stack = stack
        self._environments = Environments()
        self._started: dict[str, Driver] = {}

    def get(self, name: str) -> Driver:
        """A client that is not available here skips the test."""
        try:
            return self._get(name)
        except NotAvailable as reason:
            pytest.skip(f"{name} is not available: {reason}")

    def available(self, names: Sequence[str]) -> list[Driver]:
        """Those that can be had here."""
        found = []
        for name in names:
            with suppress(NotAvailable):
                found.append(self._get(name))
        return found

    def _get(self, name: str) -> Driver:
        if name not in self._started:
            driver = Driver(name, self._command(name), self._logs / f"{name}.log")
            self._started[name] = self._stack.enter_context(closing(driver))
        return self._started[name]

    def _command(self, name: str) -> tuple[str, ...]:
        if name == "openai_python_3":  # the one in the environment of these tests
            return sys.executable, str(HERE / "openai_python.py")
        kind, _, _ = name.rpartition("_")
        if name in VOICE_AGENTS or kind == "openai_python":
            return str(self._environments.python(name)), str(HERE / f"{kind}.py")
        folder = self._environments.node(name)
        for script in ("calls.mjs", f"{kind}.mjs"):  # modules are looked for beside the script
            shutil.copy(HERE / script, folder)
        return "node", str(folder / f"{kind}.mjs")


@pytest.fixture(scope="package")
def package_stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(TemporaryDirectory(prefix="q", ignore_cleanup_errors=True)))


@pytest.fixture(scope="package")
def clients(package_stack: ExitStack) -> Clients:
    return Clients(_folder(package_stack), package_stack)


@pytest.fixture(scope="package")
def strict(package_stack: ExitStack) -> Server:
    """Wants a key, takes small files, has the name of a hub's model and no worker."""
    return package_stack.enter_context(
        serving(
            "gateway",
            _folder(package_stack),
            API_KEYS=KEY,
            MAX_UPLOAD_BYTES="1000000",
            MODEL_ID="Qwen/Qwen3-ASR-0.6B",
            WORKER_START_TIMEOUT="1",
        )
    )


@pytest.fixture(scope="package")
def server(package_stack: ExitStack, strict: Server) -> Server:
    """The whole server with the embedded model. Where it looks for a language model, there is
    none: the other server refuses its calls."""
    server = package_stack.enter_context(
        serving(
            "serve",
            _folder(package_stack),
            MODEL_ID="embedded",
            OPENAI_BASE_URL=f"http://127.0.0.1:{strict.port}/v1",
            TRANSLATE_MODEL="none",
        )
    )
    eventually(lambda: server.client.get("/readyz").status_code == 200, "never ready")
    return server


@pytest.fixture(scope="package")
def words(server: Server) -> list[str]:
    """What the clip says, as the server hears it."""
    heard: list[str] = server.transcribe(CLIP.read_bytes()).json()["text"].split()
    assert heard
    return heard

"""Starts the server with the embedded model, transcribes speech through OpenAI's client, stops it.

Run through scripts/demo, which installs what is needed first.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai

from gateway.settings import Settings
from protocol.environment import variables
from worker.parent_death import die_with_parent
from worker.settings import WorkerSettings

CLIPS = Path(__file__).resolve().parent.parent / "examples" / "speech"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 40.0
"""Longer than the server's own SHUTDOWN_TIMEOUT and the engine's time to end."""
POLL_INTERVAL = 0.1
LOG_LINES = 30


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True)
class Clip:
    """A bundled recording and the words in it."""

    path: Path
    said: str
    how: str


def main(files: list[str]) -> int:
    """Exit status 0 if every bundled clip gave the text spoken and every file gave a text."""
    if missing := [file for file in files if not Path(file).is_file()]:
        print(f"There is no such file: {', '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="qwen3-asr-") as folder:
        log = Path(folder) / "server.log"
        try:
            with running_server(Path(folder), log) as client:
                wrong = transcribe_clips(client, bundled_clips())
                unanswered = transcribe_files(client, files)
            print("\nThe server has stopped.")
        except DemoFailed as failure:
            print(f"\n{failure}\nThe end of the server's log:\n{tail(log)}", file=sys.stderr)
            return 1
        if wrong or unanswered:
            print(f"The end of the server's log:\n{tail(log)}", file=sys.stderr)
    if wrong:
        print(f"Not as spoken: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong or unanswered else 0


def bundled_clips() -> list[Clip]:
    """Those with one channel; a call's two channels are two texts, which this route cannot say."""
    described = json.loads((CLIPS / "clips.json").read_text("utf-8"))
    return [
        Clip(CLIPS / clip["file"], clip["said"][0], clip["how"])
        for clip in described
        if len(clip["said"]) == 1
    ]


def transcribe_clips(client: openai.OpenAI, clips: list[Clip]) -> list[str]:
    """Print each clip's text beside what was said; the names of those that differ."""
    print("\nThe bundled speech. The first one waits for the model to load.")
    wrong = []
    for clip in clips:
        print(f"\n{clip.path.name}  ({clip.how})")
        print(f"  said   {clip.said or '(nothing)'}")
        started = time.monotonic()
        try:
            heard = transcribe(client, clip.path)
        except openai.APIError as error:
            raise DemoFailed(f"The server did not transcribe {clip.path.name}: {error}") from error
        seconds = time.monotonic() - started
        verdict = "as spoken" if words(heard) == words(clip.said) else "NOT as spoken"
        print(f"  heard  {heard or '(nothing)'}  [{verdict}, {seconds:.1f} s]")
        if words(heard) != words(clip.said):
            wrong.append(clip.path.name)
    return wrong


def transcribe_files(client: openai.OpenAI, files: list[str]) -> int:
    """Print each file's text or why there is none; the number of files without one."""
    if not files:
        return 0
    print("\nYour files. The embedded model hears English digits only, whatever is said:")
    unanswered = 0
    for file in files:
        started = time.monotonic()
        try:
            heard = transcribe(client, Path(file))
        except openai.APIError as error:
            print(f"\n{file}\n  {error}", file=sys.stderr)
            unanswered += 1
            continue
        print(f"\n{file}\n  heard  {heard or '(nothing)'}  [{time.monotonic() - started:.1f} s]")
    return unanswered


def transcribe(client: openai.OpenAI, path: Path) -> str:
    """The text of one recording, through OpenAI's route."""
    return client.audio.transcriptions.create(model="whisper-1", file=path).text


def words(text: str) -> list[str]:
    """For comparing: case and punctuation aside."""
    return "".join(one if one.isalnum() else " " for one in text.lower()).split()


@contextlib.contextmanager
def running_server(folder: Path, log: Path) -> Iterator[openai.OpenAI]:
    """A server with the embedded model, gone when the context ends. Raises DemoFailed."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    print(
        f"Starting the server at {address} with MODEL_ID=embedded: a small model inside the\n"
        "package, for trying things out. It hears English digits in any speech, and nothing else."
    )
    server = start_server(folder, log, port)
    try:
        wait_until_ready(server, address)
        # A proxy set for the way out would be asked for 127.0.0.1 as well.
        with openai.DefaultHttpxClient(trust_env=False) as http:
            yield openai.OpenAI(
                base_url=f"{address}/v1", api_key="none", max_retries=0, http_client=http
            )
    finally:
        stop_server(server)


def start_server(folder: Path, log: Path, port: int) -> subprocess.Popen[bytes]:
    """`qwen3-asr serve` in a session of its own, so that Ctrl-C reaches only this program."""
    own = {*variables(Settings), *variables(WorkerSettings)}
    environment = {name: value for name, value in os.environ.items() if name not in own} | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "MODEL_ID": "embedded",
        "DATA_DIR": str(folder / "data"),
    }
    parent = os.getpid()
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),
        )


def wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    """Ask /readyz until it says 200; a scaled-to-zero server is ready. Raises DemoFailed."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoFailed(f"The server ended with exit status {server.returncode}.")
        try:
            with direct.open(f"{address}/readyz", timeout=POLL_INTERVAL * 20):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_INTERVAL)
    raise DemoFailed(f"The server was not ready after {START_TIMEOUT:.0f} s.")


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Ask it to end; a server that does not is killed. Its worker dies with it."""
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path) -> str:
    """The last lines of the server's log."""
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_LINES:]) or "(empty)"


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)

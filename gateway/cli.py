"""The command `qwen3-asr`. Imports as little as the chosen subcommand needs."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

HELP = """\
usage: qwen3-asr COMMAND

A speech-to-text server for Qwen3-ASR, with OpenAI's API.

  serve        the gateway, and a worker on this machine that it starts when there is work
  gateway      the gateway alone, for workers in other containers or on other machines
  worker       a worker alone: connects to a gateway and starts the model when asked to
  healthcheck  exit with 0 if the gateway on this machine answers, else with 1
  outbound     what the gateway starts to call other servers, such as a language model's
  keys FOLDER  make the keys of a link between machines, in FOLDER/gateway and FOLDER/worker

  -h, --help   this text
  --version    the version

Settings are environment variables. The most used:

  MODEL_ID   Qwen/Qwen3-ASR-1.7B (default), Qwen/Qwen3-ASR-0.6B, a folder, or `embedded`: a small
             model inside the package, for trying things out, which hears English digits only
  HOST, PORT 127.0.0.1 and 8000
  API_KEYS   keys callers must present, separated by commas; none leaves the server open
  DATA_DIR   where uploads, sockets and caches are kept

docs/configuration.md has all of them. To try it:

  MODEL_ID=embedded qwen3-asr serve
  curl -F file=@recording.wav http://127.0.0.1:8000/v1/audio/transcriptions
"""
WORKER_MODULES = ("torch", "numpy", "safetensors", "tokenizers", "huggingface_hub", "av")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one subcommand and exit with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["-h"], ["--help"], ["help"]):
        print(HELP, end="")
        sys.exit(0)
    if words == ["--version"]:
        from gateway.version import VERSION

        print(f"qwen3-asr {VERSION}")
        sys.exit(0)
    if len(words) == 2 and words[0] == "keys":
        sys.exit(_keys(words[1]))
    command = COMMANDS.get(words[0]) if len(words) == 1 else None
    if command is None:
        print(HELP, end="", file=sys.stderr)
        sys.exit(2)
    sys.exit(command(os.environ))


def _serve(environment: Mapping[str, str]) -> int:
    from importlib.util import find_spec

    missing = [name for name in WORKER_MODULES if find_spec(name) is None]
    if missing:
        return _complain(
            f"The worker's packages are not installed here ({', '.join(missing)}).\n"
            'Install them with `pip install "qwen3-asr-server[worker]"`, or run '
            "`qwen3-asr gateway` and a worker elsewhere."
        )
    return _run(environment, with_supervisor=True)


def _gateway(environment: Mapping[str, str]) -> int:
    return _run(environment, with_supervisor=False)


def _run(environment: Mapping[str, str], *, with_supervisor: bool) -> int:
    from gateway.light_imports import leave_out_tls

    leave_out_tls()
    from gateway.main import run_gateway
    from gateway.settings import Settings
    from protocol.environment import BadSettings, read_settings

    try:
        settings = read_settings(Settings, environment)
    except BadSettings as error:
        return _complain(f"These settings cannot be used:\n{error}")
    if with_supervisor and settings.worker_link != "ipc":
        return _complain(
            "These settings cannot be used:\nWORKER_LINK: `serve` runs its worker on this machine, "
            "over ipc. For workers on other machines use `qwen3-asr gateway`, or unset WORKER_LINK."
        )
    return run_gateway(settings, with_supervisor=with_supervisor)


def _worker(environment: Mapping[str, str]) -> NoReturn:
    """Becomes the supervisor: the same process id, nothing of this program left in memory."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "worker"], dict(environment))


def _healthcheck(environment: Mapping[str, str]) -> int:
    from gateway.healthcheck import answers

    return 0 if answers(environment) else 1


def _outbound(environment: Mapping[str, str]) -> int:
    from stat import S_ISFIFO, S_ISSOCK

    kind = os.fstat(0).st_mode
    if not (S_ISFIFO(kind) or S_ISSOCK(kind)):
        return _complain("The gateway starts `qwen3-asr outbound` by itself, when it has a call.")
    from gateway.outbound.child import main as serve_calls

    serve_calls()
    return 0


def _keys(folder: str) -> int:
    from pathlib import Path

    from protocol.keys import write_key_folders
    from protocol.sockets import LinkError

    try:
        write_key_folders(Path(folder))
    except LinkError as error:
        return _complain(str(error))
    print(
        f"Made {folder}/gateway and {folder}/worker. Move each to its machine, readable by its\n"
        "user alone, and name it there in WORKER_LINK_KEYS."
    )
    return 0


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


COMMANDS: dict[str, Callable[[Mapping[str, str]], int]] = {
    "serve": _serve,
    "gateway": _gateway,
    "worker": _worker,
    "healthcheck": _healthcheck,
    "outbound": _outbound,
}

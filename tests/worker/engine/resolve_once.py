"""Run as a process of its own, for the hub's client reads its environment when it is imported:
resolves a model id and prints each step of progress, then the folder or the failure, as JSON lines.
"""

import json
import sys
from pathlib import Path

from worker.engine.checkpoints import resolve_checkpoint
from worker.engine.interface import EngineFailure, LoadProgress


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def say_progress(progress: LoadProgress) -> None:
    say(stage=progress.stage, done=progress.done_bytes, total=progress.total_bytes)


def main(model_id: str, cache_dir: str) -> None:
    try:
        say(folder=str(resolve_checkpoint(model_id, Path(cache_dir), say_progress)))
    except EngineFailure as failure:
        say(code=failure.code, message=failure.message)


if __name__ == "__main__":
    main(*sys.argv[1:])

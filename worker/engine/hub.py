"""Downloads a checkpoint from the Hugging Face hub, or finds it in the cache.

HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what the hub's own tools mean
by them; an interrupted download goes on where it stopped.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
    XetError,
)
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects

from worker.engine.checkpoints import TRANSCRIBER, Role, is_complete, refuse_other_models_in
from worker.engine.interface import EngineFailure, LoadProgress, ReportProgress

logger = logging.getLogger(__name__)

# What a checkpoint needs. No *.bin, *.pt, *.pth: pickles are not read, so not fetched either.
WANTED_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja")

# Room that a download must leave on the disk.
SPARE_BYTES = 256 * 1024**2

PROGRESS_INTERVAL = 0.5

# hf_xet has errors of its own beside OSError; HFValidationError and others are ValueErrors.
_DOWNLOAD_ERRORS = (OSError, ValueError, RuntimeError, XetError, XetDownloadError)


@dataclass(frozen=True, slots=True)
class _WantedFile:
    name: str
    size_bytes: int


def download_snapshot(
    model_id: str, cache_dir: Path, report: ReportProgress, role: Role = TRANSCRIBER
) -> Path:
    """Folder of the hub's snapshot of model_id. Raises EngineFailure with what to do."""
    if _looks_like_a_path(model_id):
        raise EngineFailure(
            "model_not_found",
            f"The folder that {role.variable} names does not exist, or this process may not see"
            " it.",
        )
    disable_progress_bars()
    cache = _hub_cache(cache_dir)
    try:
        cached = _cached_snapshot(model_id, cache, role)
        return cached or _download(model_id, cache, report, role)
    except _DOWNLOAD_ERRORS as error:
        logger.error("the model could not be downloaded: %s: %s", type(error).__name__, error)
        raise _explained(error, role) from error


def _looks_like_a_path(model_id: str) -> bool:
    return model_id.startswith(("/", ".", "~")) or model_id.count("/") > 1 or "\\" in model_id


def _hub_cache(cache_dir: Path) -> Path:
    if {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} & os.environ.keys():
        return Path(constants.HF_HUB_CACHE)
    return cache_dir / "huggingface" / "hub"


def _cached_snapshot(model_id: str, cache: Path, role: Role) -> Path | None:
    try:
        folder = Path(snapshot_download(model_id, cache_dir=cache, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    # The hub's client returns a snapshot that an interrupted download left incomplete.
    return folder if is_complete(folder, role) else None


def _download(model_id: str, cache: Path, report: ReportProgress, role: Role) -> Path:
    listing = HfApi().model_info(model_id, files_metadata=True, timeout=30)
    siblings = {entry.rfilename: entry.size or 0 for entry in listing.siblings or ()}
    wanted = [
        _WantedFile(name, siblings[name])
        for name in filter_repo_objects(siblings, allow_patterns=list(WANTED_FILES))
    ]
    # Four gigabytes are not fetched for a model that is refused afterwards.
    if "config.json" not in siblings or not any(n.endswith(".safetensors") for n in siblings):
        raise EngineFailure(
            "unsupported_model",
            "The hub's model of this name has no config.json or no safetensors, so it is no"
            f" Qwen3-ASR checkpoint. Set {role.variable} to {role.examples}.",
        )
    config = Path(hf_hub_download(model_id, "config.json", cache_dir=cache))
    refuse_other_models_in(config.parent, role)

    storage = cache / f"models--{model_id.replace('/', '--')}"
    progress = _Progress(storage, storage / "snapshots" / str(listing.sha), wanted)
    _require_space(cache, progress.missing_bytes)
    report(progress.now())
    running = _in_background(
        lambda: snapshot_download(model_id, cache_dir=cache, allow_patterns=list(WANTED_FILES))
    )
    folder = _watched(running, progress, report)
    logger.info("model downloaded, model_id=%s bytes=%d", model_id, progress.total_bytes)
    return Path(folder)


class _Progress:
    """Bytes of a download, seen on the disk: the hub's client reports none to its caller."""

    def __init__(self, storage: Path, snapshot: Path, wanted: Sequence[_WantedFile]) -> None:
        self._blobs = storage / "blobs"
        self.total_bytes = sum(file.size_bytes for file in wanted)
        present = sum(file.size_bytes for file in wanted if (snapshot / file.name).exists())
        begun = _bytes_in(self._blobs, "*.incomplete")
        self._base_bytes = present + begun - _bytes_in(self._blobs, "*")
        self.missing_bytes = max(0, self.total_bytes - present - begun)

    def now(self) -> LoadProgress:
        done_bytes = self._base_bytes + _bytes_in(self._blobs, "*")
        return LoadProgress("download", min(done_bytes, self.total_bytes), self.total_bytes)


def _bytes_in(folder: Path, pattern: str) -> int:
    total_bytes = 0
    for path in folder.glob(pattern):
        try:
            total_bytes += path.stat().st_size
        except FileNotFoundError:  # renamed from *.incomplete between listing and stat
            continue
    return total_bytes


def _require_space(cache: Path, missing_bytes: int) -> None:
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < missing_bytes + SPARE_BYTES:
        raise EngineFailure(
            "download_failed",
            f"The model needs {missing_bytes / 1e9:.1f} GB more, but its disk has only"
            f" {free_bytes / 1e9:.1f} GB free. Make room, or move DATA_DIR or HF_HOME to a larger"
            " disk.",
        )


def _in_background(work: Callable[[], str]) -> Future[str]:
    """Runs work in a daemon thread, so that the process can end in the middle of a download."""
    outcome: Future[str] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="model-download", daemon=True).start()
    return outcome


def _watched(running: Future[str], progress: _Progress, report: ReportProgress) -> str:
    """Reports only what has changed, so that a stalled download is seen as silence."""
    last = progress.now()
    while True:
        try:
            folder = running.result(timeout=PROGRESS_INTERVAL)
        except StillRunning:
            if running.done():  # the download itself timed out
                raise
            folder = None
        now = progress.now()
        if now != last:
            report(now)
            last = now
        if folder is not None:
            return folder


def _explained(error: Exception, role: Role) -> EngineFailure:
    """What went wrong with the download, in words that tell the operator what to do."""
    if isinstance(error, GatedRepoError):
        return EngineFailure(
            "download_failed",
            "The hub gives this model only to those who accepted its licence: accept it on the"
            " model's page and set HF_TOKEN.",
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | HFValidationError):
        return EngineFailure(
            "model_not_found",
            f"The hub knows no model of the name in {role.variable}. Check its spelling; for a"
            " private model set HF_TOKEN.",
        )
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable(role)
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return EngineFailure(
            "download_failed",
            f"The hub answered with status {error.response.status_code}. Try again later, or check"
            " HF_TOKEN and HF_ENDPOINT.",
        )
    return _explained_by_errno(getattr(error, "errno", None), role)


def _explained_by_errno(number: int | None, role: Role) -> EngineFailure:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return EngineFailure(
            "download_failed",
            "The disk became full while the model was downloaded. Make room, or move DATA_DIR or"
            " HF_HOME to a larger disk; the download goes on where it stopped.",
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EngineFailure(
            "download_failed",
            "The cache of models cannot be written. Give this process's user the right to write"
            " in DATA_DIR (or HF_HOME).",
        )
    return _unreachable(role)


def _unreachable(role: Role) -> EngineFailure:
    if constants.HF_HUB_OFFLINE:
        return EngineFailure(
            "download_failed",
            "The model is not in the cache, and HF_HUB_OFFLINE forbids to download it. Unset it,"
            f" or point {role.variable} at a folder with the model.",
        )
    return EngineFailure(
        "download_failed",
        "The hub could not be reached, or the connection broke. Check network, proxy and"
        f" HF_ENDPOINT, or point {role.variable} at a folder with the model; a begun download goes"
        " on where it stopped.",
    )

"""An upload pulled from a gateway whose spool folder this worker does not see."""

import contextlib
import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import PullUpload, Transcribe, UploadPiece
from worker.mailbox import Mailbox, Pieces

CREDIT = 8
"""Pieces asked for at a time: 2 MiB under way."""
PIECE_TIMEOUT = 30.0
"""Seconds without a piece after which the upload counts as lost."""


class UploadLost(Exception):
    """The upload cannot be had any more."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One upload on its way here."""

    request: Transcribe
    mailbox: Mailbox
    pieces: Pieces
    """Where its pieces arrive; None among them ends the wait."""
    moved: Callable[[], None]
    """Called for each stretch that came."""


@contextlib.contextmanager
def fetched_upload(fetch: Fetch, folder: Path) -> Iterator[Path]:
    """The upload as a file without a name, so that it is gone with this process at the latest.

    Raises UploadLost, OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        try:
            _pull(fetch, file.fileno())
        finally:
            fetch.mailbox.forget_pieces(fetch.request.request_id, fetch.pieces)
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _pull(fetch: Fetch, descriptor: int) -> None:
    offset = 0
    while True:
        fetch.moved()
        fetch.mailbox.send(PullUpload(fetch.request.request_id, offset, CREDIT))
        for _ in range(CREDIT):
            piece = _next_piece(fetch, offset)
            os.pwrite(descriptor, piece.content, offset)
            offset += len(piece.content)
            if piece.is_last:
                return
            if len(piece.content) != UPLOAD_PIECE_BYTES:
                raise UploadLost


def _next_piece(fetch: Fetch, offset: int) -> UploadPiece:
    try:
        piece = fetch.pieces.get(timeout=PIECE_TIMEOUT)
    except queue.Empty:
        raise UploadLost from None
    if piece is None or piece.offset != offset:
        raise UploadLost
    return piece

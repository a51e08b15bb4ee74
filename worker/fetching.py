"""An upload pulled from a gateway whose spool folder this worker does not see."""

import contextlib
import os
import queue
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import PullUpload, Transcribe
from worker.mailbox import Mailbox

CREDIT = 8
"""Pieces asked for at a time: 2 MiB under way."""
PIECE_TIMEOUT = 30.0
"""Seconds without a piece after which the upload counts as lost."""


class UploadLost(Exception):
    """The upload cannot be had any more."""


@contextlib.contextmanager
def fetched_upload(
    request: Transcribe, mailbox: Mailbox, folder: Path, moved: Callable[[], None]
) -> Iterator[Path]:
    """The upload as a file of our own, deleted afterwards. Raises UploadLost, OSError.

    `moved` is called for each stretch that came.

    Another thread ends the wait by mailbox.forget_pieces.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            _pull(request, mailbox, descriptor, moved)
        finally:
            mailbox.forget_pieces(request.request_id)
            os.close(descriptor)
        yield path
    finally:
        path.unlink()


def _pull(
    request: Transcribe, mailbox: Mailbox, descriptor: int, moved: Callable[[], None]
) -> None:
    pieces = mailbox.expect_pieces(request.request_id)
    offset = 0
    while True:
        moved()
        mailbox.send(PullUpload(request.request_id, offset, CREDIT))
        for _ in range(CREDIT):
            try:
                piece = pieces.get(timeout=PIECE_TIMEOUT)
            except queue.Empty:
                raise UploadLost from None
            if piece is None or piece.offset != offset:
                raise UploadLost
            os.pwrite(descriptor, piece.content, offset)
            offset += len(piece.content)
            if piece.is_last:
                return
            if len(piece.content) != UPLOAD_PIECE_BYTES:
                raise UploadLost

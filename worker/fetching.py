"""An upload pulled from a gateway whose spool folder this worker does not see."""

import contextlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import PullUpload, Transcribe, UploadPiece
from worker.audio.errors import DecodingClosed
from worker.audio.growth import Growth
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
    announced: Growth
    """How much of it the gateway has."""


@contextlib.contextmanager
def fetched_upload(fetch: Fetch, folder: Path) -> Iterator[tuple[Path, Growth]]:
    """The upload as a file without a name, so that it is gone with this process at the latest, and
    how far it is there: it is pulled by a thread of its own until the context ends.

    Waiting for the growth raises UploadLost. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=folder, buffering=0) as file,
        contextlib.closing(Growth(0, is_whole=False)) as here,
    ):
        name = f"fetcher {fetch.request.request_id}"
        arguments = (fetch, file.fileno(), here)
        puller = threading.Thread(target=_pull, args=arguments, name=name, daemon=True)
        puller.start()
        try:
            yield Path(f"/proc/self/fd/{file.fileno()}"), here
        finally:
            fetch.announced.give_up()
            fetch.pieces.put(None)
            puller.join()
            fetch.mailbox.forget_pieces(fetch.request.request_id, fetch.pieces)


def _pull(fetch: Fetch, descriptor: int, here: Growth) -> None:
    """Pull what is announced until all of it is here; whoever waits for that hears of a failure."""
    try:
        while not here.is_whole:
            _pull_stretch(fetch, descriptor, here)
    except (UploadLost, DecodingClosed, OSError) as error:
        here.give_up(error)


def _pull_stretch(fetch: Fetch, descriptor: int, here: Growth) -> None:
    announced, offset = fetch.announced, here.length
    announced.wait(lambda: announced.is_whole or announced.length - offset >= UPLOAD_PIECE_BYTES)
    if announced.is_whole and announced.length == offset:
        here.tell(offset, is_whole=True)
        return
    full_pieces = (announced.length - offset) // UPLOAD_PIECE_BYTES
    pieces = CREDIT if announced.is_whole else min(CREDIT, full_pieces)
    fetch.moved()
    fetch.mailbox.send(PullUpload(fetch.request.request_id, offset, pieces))
    for _ in range(pieces):
        piece = _next_piece(fetch, offset)
        os.pwrite(descriptor, piece.content, offset)
        offset += len(piece.content)
        here.tell(offset, is_whole=piece.is_last)
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

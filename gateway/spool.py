"""The folder that takes uploads: who creates a file deletes it, whatever happens in between.

Files lie in a folder per start of the gateway, so that the next start can sweep what a killed one
left. Nothing a caller sends becomes part of a name.
"""

import errno
import os
import re
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import ApiError, SpoolFull, Unavailable

GATEWAY_ID = re.compile(r"[0-9a-f]{8,64}")


class SpooledUpload:
    """One recording on disk, deleted with its finished chunks when the context ends.

    Writes go straight to the file from the event loop: a write of 32 KiB into the page cache takes
    microseconds, and threads cost twice the memory at 200 uploads (docs/benchmarks.md).
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / stem
        self.chunks_path = folder / f"{stem}.chunks"
        """Where the finished chunks of a transcription under way are kept."""
        self.name = f"{folder.name}/{stem}"
        """The path inside the spool folder, as workers get it."""
        self.size = 0
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise _told_to_caller(error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

    def delete(self) -> None:
        """Remove the file and its finished chunks, where nobody needs them before the end."""
        self.close()
        for path in (self.path, self.chunks_path):
            path.unlink(missing_ok=True)

    def delete_chunks(self) -> None:
        """Remove the finished chunks alone: the recording is to be transcribed anew."""
        self.chunks_path.unlink(missing_ok=True)

    def head(self, count: int) -> bytes:
        """As many bytes from the beginning, or what is there of them."""
        with self.path.open("rb", buffering=0) as file:
            return file.read(count)

    def write(self, content: memoryview) -> None:
        """Append; raises SpoolFull where the disk cannot take it."""
        try:
            while content:
                written = os.write(self._descriptor, content)
                self.size += written
                content = content[written:]
        except OSError as error:
            raise _told_to_caller(error) from error

    def close(self) -> None:
        """No more writes; the file stays until the context ends."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Spool:
    """The spool folder of one start of the gateway."""

    def __init__(self, folder: Path, gateway_id: str) -> None:
        assert GATEWAY_ID.fullmatch(gateway_id), "workers accept hexadecimal names only"
        self.folder = folder
        self._own_folder = folder / gateway_id

    def open(self) -> int:
        """Create the folders, delete what earlier starts left, and say how many folders went.

        Only the holder of the data folder's lock may call this.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._own_folder.mkdir(mode=0o700)
        left = [
            entry.path
            for entry in os.scandir(self.folder)
            if GATEWAY_ID.fullmatch(entry.name)
            and entry.name != self._own_folder.name
            and entry.is_dir(follow_symlinks=False)
        ]
        for folder in left:
            shutil.rmtree(folder)
        return len(left)

    def close(self) -> None:
        """Remove this start's folder, with anything still in it."""
        shutil.rmtree(self._own_folder, ignore_errors=True)

    def new_path(self) -> Path:
        """For a file with a name nobody can guess; who creates it deletes it."""
        return self._own_folder / secrets.token_hex(16)

    def new_upload(self) -> SpooledUpload:
        """A file with a name nobody can guess, for one recording."""
        return SpooledUpload(self._own_folder, secrets.token_hex(16))


def _told_to_caller(error: OSError) -> ApiError | OSError:
    """What a caller can be told about a failed write; anything else is a fault of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SpoolFull("The disk for uploads is full. The server's operator must free space.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable("Too many requests at once. Try again shortly.", code="queue_full")
    return error

"""Receives one upload: the recording streams to the spool, never whole in memory."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from gateway.boundary import ClientGone
from gateway.errors import RequestStalled, UnsupportedMediaType, UploadTooLarge
from gateway.multipart import FILE_FIELD, MAX_OVERHEAD_BYTES, Form, MultipartReader, boundary_of

SLOWEST_BYTES_PER_SECOND = 1024
GRACE_SECONDS = 60.0
"""An upload may be slower than that for so long."""


class FileSink(Protocol):
    """What takes a recording while it arrives."""

    def write(self, content: memoryview) -> None:
        """Append; raises ApiError where it cannot be taken."""
        ...

    def close(self) -> None:
        """No more writes."""
        ...


async def receive_form(
    scope: Scope,
    receive: Receive,
    upload: FileSink,
    *,
    max_file_bytes: int,
    stall_timeout: float,
    file_field: str = FILE_FIELD,
    watch: Callable[[MultipartReader], None] = lambda reader: None,
) -> Form:
    """Read a multipart body, its recording into `upload`, which is closed for reading then.

    `watch` is called after each stretch of the body that is not its last.
    Raises an ApiError for a body that cannot be used and ClientGone for a caller that left.
    """
    headers = Headers(scope=scope)
    _check_headers(headers, max_file_bytes)
    reader = MultipartReader(
        boundary_of(headers.get("content-type", "")),
        write_file=upload.write,
        max_file_bytes=max_file_bytes,
        file_field=file_field,
    )
    await _feed(reader, receive, stall_timeout, watch)
    upload.close()
    return reader.finish()


def _check_headers(headers: Headers, max_file_bytes: int) -> None:
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    declared = int(headers.get("content-length", "0"))  # h11 lets only digits through
    if declared > max_file_bytes + MAX_OVERHEAD_BYTES:
        raise UploadTooLarge(
            f"The upload is larger than {max_file_bytes} bytes, the limit of this server.",
            param="file",
        )


async def _feed(
    reader: MultipartReader,
    receive: Receive,
    stall_timeout: float,
    watch: Callable[[MultipartReader], None],
) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    received_bytes = 0
    while True:
        try:
            async with asyncio.timeout(stall_timeout):
                message = await receive()
        except TimeoutError:
            raise RequestStalled("The upload stopped arriving. Send it again.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = message.get("body", b"")
        received_bytes += len(body)
        reader.feed(body)
        if not message.get("more_body", False):
            return
        if is_too_slow(received_bytes, clock() - started):
            raise RequestStalled("The upload arrives too slowly. Send it again.")
        watch(reader)


def is_too_slow(received_bytes: int, seconds: float) -> bool:
    """Whether an upload only drips in, so as to hold a connection and a file for hours."""
    return seconds > GRACE_SECONDS and received_bytes < SLOWEST_BYTES_PER_SECOND * seconds


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the caller has left; for use after the whole body was received."""
    while (await receive())["type"] != "http.disconnect":
        pass

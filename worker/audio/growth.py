"""How much of an upload is there while it is still being written: told by one thread, waited for by
another. A decoder gets such a file through a pipe, front to back."""

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from worker.audio.errors import DecoderFailed, DecodingClosed

POURED_BYTES: Final = 64 * 1024
"""What an empty pipe takes at once (pipe(7))."""


class Growth:
    """The length of one upload. `tell` and `give_up` may be called by any thread, at any time."""

    def __init__(self, length: int, *, is_whole: bool) -> None:
        self.length = length
        """Bytes that are there."""
        self.is_whole = is_whole
        """Whether no more will come."""
        self._fault: Exception | None = None
        self._lock = threading.Lock()
        self._changed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __repr__(self) -> str:
        return f"<Growth {self.length} bytes{', whole' if self.is_whole else ''}>"

    def tell(self, length: int, *, is_whole: bool) -> None:
        """So much is there now; less than before is old news."""
        with self._lock:
            self.length = max(self.length, length)
            self.is_whole = self.is_whole or is_whole
            self._notify()

    def give_up(self, fault: Exception | None = None) -> None:
        """Whoever waits, or will, gets that fault: DecodingClosed where there is none."""
        with self._lock:
            self._fault = fault or DecodingClosed("Nobody waits for the recording any more.")
            self._notify()

    def close(self) -> None:
        """Nobody waits any more. Telling is harmless still."""
        with self._lock:
            os.close(self._changed)
            self._changed = -1

    def wait(self, is_enough: Callable[[], bool], *others: socket.socket) -> None:
        """Until `is_enough`, or one of the others can be read. Raises what it was given up with."""
        poller = select.poll()
        poller.register(self._changed, select.POLLIN)
        for other in others:
            poller.register(other, select.POLLIN)
        while self._fault is None and not is_enough():
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._changed not in ready:
                return
            os.eventfd_read(self._changed)
        if self._fault is not None:
            raise self._fault

    def _notify(self) -> None:
        if self._changed >= 0:
            os.eventfd_write(self._changed, 1)


class GrowingFile:
    """A file as far as it is there, poured into a pipe whose `reader` goes to a decoder.

    For one thread; closed by who made it. `while_waiting` is entered while nothing is to be poured.
    Raises OSError where the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        growth: Growth,
        while_waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._growth = growth
        self._while_waiting = while_waiting
        self._position = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_input()
        self.forget_reader()
        os.close(self._file)

    def __repr__(self) -> str:
        return f"<GrowingFile {self._position} of {self._growth!r}>"

    def forget_reader(self) -> None:
        """The decoder has its own: this process needs none, and would hide the decoder's end."""
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def end_input(self) -> None:
        """The decoder reads what is in the pipe, and then the end."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def pour_until_answered(self, decoder: socket.socket, timeout: float) -> None:
        """Give the decoder what it takes until it says something, or has got everything.

        Waiting for the upload takes as long as it takes. Raises TimeoutError where the decoder
        neither takes nor says anything for `timeout` seconds, DecoderFailed,
        and what the growth was given up with.
        """
        while self._writer >= 0:
            if self._has_more():
                if self._is_answered(decoder, timeout):
                    return
                self._pour()
            elif self._growth.is_whole:
                self.end_input()
            elif self._waits_for_more(decoder):
                return

    def _has_more(self) -> bool:
        return self._growth.length > self._position

    def _is_answered(self, decoder: socket.socket, timeout: float) -> bool:
        poller = select.poll()
        poller.register(decoder, select.POLLIN)
        poller.register(self._writer, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poller.poll(timeout * 1000)}
        if not ready:
            raise TimeoutError
        return decoder.fileno() in ready

    def _waits_for_more(self, decoder: socket.socket) -> bool:
        """Whether the decoder said something before more was there."""
        with self._while_waiting():
            self._growth.wait(self._is_served, decoder)
        return not self._is_served()

    def _is_served(self) -> bool:
        return self._has_more() or self._growth.is_whole

    def _pour(self) -> None:
        count = min(POURED_BYTES, self._growth.length - self._position)
        try:
            content = os.pread(self._file, count, self._position)
        except OSError as error:
            raise DecoderFailed("The upload could not be read while it grew.") from error
        if not content:  # a spool on a network, whose length is seen late
            raise DecoderFailed("The upload is shorter here than it was told to be.")
        try:
            self._position += os.write(self._writer, content)
        except BrokenPipeError:
            self.end_input()  # the decoder wants no more: it says why, or is gone

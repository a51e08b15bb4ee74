"""The engine's end of the work link, against a gateway played on a real socket."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest
import zmq

from protocol import codec, sockets
from protocol.control import Heartbeat, Introduce, Refused, Welcome
from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.transcription import Cancel, Hello, PullUpload, Transcribe, UploadPiece
from worker.audio.growth import Growth
from worker.fetching import CREDIT, Fetch, UploadLost, fetched_upload
from worker.mailbox import Mailbox

DEADLINE = 10.0
HELLO = Hello("one", 7, "model", 4, False)
REQUEST = Transcribe("r", 1, "ab/cd", 0, None, "", (), 0.0, False, 0, 0)

Message = TypeVar("Message")


class Gateway:
    """A ROUTER that the test plays."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sockets.make_link_folder(folder)
        self.address = sockets.link_addresses("ipc", folder).work
        self._socket = sockets.bind_router(self._context, self.address, None)
        self._peer = b""

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def receive(self, kind: type[Message]) -> Message:
        while self._socket.poll(DEADLINE * 1000):  # type: ignore[arg-type]
            self._peer, frame = self._socket.recv_multipart()
            message = codec.decode(frame)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"{kind.__name__} never came")

    def send(self, message: object) -> None:
        self.send_raw(codec.encode(message))

    def send_raw(self, frame: bytes) -> None:
        self._socket.send_multipart([self._peer, frame])

    def introduce(self, probe_file: str = "ab/probe", probe_text: str = "text") -> Hello:
        self.receive(Heartbeat)
        self.send(Introduce("ab", probe_file, probe_text))
        return self.receive(Hello)


class Engine:
    """A mailbox and what it delivered."""

    def __init__(self, address: str, spool: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.delivered: SimpleQueue[Any] = SimpleQueue()
        self.beaten = threading.Event()
        self.mailbox = Mailbox(
            sockets.connect_dealer(self._context, address, None),
            HELLO,
            spool,
            deliver=self.delivered.put,
            beat=self.beaten.set,
        )
        self.mailbox.start()

    def close(self) -> None:
        self.mailbox.close()
        self._context.term()


@pytest.fixture
def gateway(short_folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(short_folder)
    yield gateway
    gateway.close()


@pytest.fixture
def engine(gateway: Gateway, short_folder: Path) -> Iterator[Engine]:
    (short_folder / "spool" / "ab").mkdir(parents=True)
    engine = Engine(gateway.address, short_folder / "spool")
    yield engine
    engine.close()


def test_asked_who_it_is_it_says_hello_and_voids_earlier_requests(
    gateway: Gateway, engine: Engine
) -> None:
    assert gateway.introduce() == HELLO
    assert isinstance(engine.delivered.get(timeout=DEADLINE), Introduce)


def test_it_sees_the_spool_where_the_probe_is(
    gateway: Gateway, engine: Engine, short_folder: Path
) -> None:
    (short_folder / "spool" / "ab" / "probe").write_text("text")

    assert gateway.introduce().sees_spool
    assert engine.mailbox.sees_spool


def test_another_text_in_the_probe_is_another_spool(
    gateway: Gateway, engine: Engine, short_folder: Path
) -> None:
    (short_folder / "spool" / "ab" / "probe").write_text("other")

    assert not gateway.introduce().sees_spool


def test_a_probe_outside_the_spool_is_not_looked_at(
    gateway: Gateway, engine: Engine, short_folder: Path
) -> None:
    (short_folder / "secret").write_text("text")

    assert not gateway.introduce("../secret").sees_spool


def test_messages_go_both_ways(gateway: Gateway, engine: Engine) -> None:
    gateway.introduce()
    gateway.send(Welcome())
    gateway.send(Cancel("r"))
    engine.mailbox.send(PullUpload("r", 0, 1))

    assert isinstance(engine.delivered.get(timeout=DEADLINE), Introduce)
    assert engine.delivered.get(timeout=DEADLINE) == Cancel("r")
    assert gateway.receive(PullUpload) == PullUpload("r", 0, 1)


def test_garbage_and_refusals_are_passed_over(gateway: Gateway, engine: Engine) -> None:
    gateway.introduce()
    gateway.send_raw(b"\xc1")
    gateway.send(Refused("protocol_version", "update the worker"))
    gateway.send(Cancel("r"))
    engine.delivered.get(timeout=DEADLINE)

    assert engine.delivered.get(timeout=DEADLINE) == Cancel("r")


def test_it_beats_for_the_supervisor(gateway: Gateway, engine: Engine) -> None:
    assert engine.beaten.wait(DEADLINE)


def test_what_was_queued_before_closing_is_sent(gateway: Gateway, short_folder: Path) -> None:
    engine = Engine(gateway.address, short_folder)
    gateway.introduce()
    for offset in range(100):
        engine.mailbox.send(PullUpload("r", offset, 1))
    engine.close()

    assert [gateway.receive(PullUpload).offset for _ in range(100)] == list(range(100))


def fetch(
    engine: Engine,
    moved: Callable[[], None] = lambda: None,
    *,
    length: int = 10 * UPLOAD_PIECE_BYTES,
    is_whole: bool = True,
) -> Fetch:
    announced = Growth(length, is_whole=is_whole)
    return Fetch(REQUEST, engine.mailbox, engine.mailbox.expect_pieces("r"), moved, announced)


def await_whole(here: Growth) -> None:
    here.wait(lambda: here.is_whole)


def serve_upload(gateway: Gateway, upload: bytes, credits: list[int]) -> None:
    """Answer pulls until the last piece is sent, noting the credit of each."""
    while True:
        pull = gateway.receive(PullUpload)
        credits.append(pull.pieces)
        for number in range(pull.pieces):
            offset = pull.offset + number * UPLOAD_PIECE_BYTES
            content = upload[offset : offset + UPLOAD_PIECE_BYTES]
            is_last = offset + len(content) >= len(upload)
            gateway.send(UploadPiece("r", offset, content, is_last))
            if is_last:
                return


def test_an_upload_is_pulled_whole_into_a_file_without_a_name(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()
    upload = bytes(range(256)) * (UPLOAD_PIECE_BYTES // 256) * (CREDIT + 1) + b"tail"
    credits: list[int] = []
    moves: list[None] = []
    server = threading.Thread(target=serve_upload, args=(gateway, upload, credits))
    server.start()
    with fetched_upload(fetch(engine, lambda: moves.append(None)), tmp_path) as (path, here):
        await_whole(here)
        assert path.read_bytes() == upload
        assert list(tmp_path.iterdir()) == []  # it has no name: a killed process leaves nothing
    server.join()

    assert credits == [CREDIT, CREDIT]
    assert len(moves) == 2


def test_pieces_out_of_order_are_a_lost_upload(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()

    def misplace() -> None:
        gateway.receive(PullUpload)
        gateway.send(UploadPiece("r", 5, b"x", True))

    server = threading.Thread(target=misplace)
    server.start()
    with pytest.raises(UploadLost):
        with fetched_upload(fetch(engine), tmp_path) as (_, here):
            await_whole(here)
    server.join()

    assert list(tmp_path.iterdir()) == []


def test_another_thread_ends_the_wait_for_pieces(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()
    waiting = fetch(engine)
    waiting.pieces.put(None)

    with pytest.raises(UploadLost):
        with fetched_upload(waiting, tmp_path) as (_, here):
            await_whole(here)


def test_a_request_opened_again_keeps_its_pieces_when_the_earlier_wait_ends(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()
    earlier, later = fetch(engine), fetch(engine)
    engine.mailbox.forget_pieces("r", earlier.pieces)
    server = threading.Thread(target=serve_upload, args=(gateway, b"upload", []))
    server.start()
    with fetched_upload(later, tmp_path) as (path, here):
        await_whole(here)
        assert path.read_bytes() == b"upload"
    server.join()


def send_piece(gateway: Gateway, offset: int, content: bytes, *, is_last: bool) -> None:
    gateway.send(UploadPiece("r", offset, content, is_last))


def test_of_an_upload_that_grows_full_pieces_are_pulled_and_in_the_end_the_rest(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()
    piece = bytes(UPLOAD_PIECE_BYTES)
    growing = fetch(engine, length=2 * UPLOAD_PIECE_BYTES + 5, is_whole=False)

    with fetched_upload(growing, tmp_path) as (path, here):
        assert gateway.receive(PullUpload) == PullUpload("r", 0, 2)
        send_piece(gateway, 0, piece, is_last=False)
        send_piece(gateway, UPLOAD_PIECE_BYTES, piece, is_last=False)
        here.wait(lambda: here.length == 2 * UPLOAD_PIECE_BYTES)
        assert not here.is_whole
        growing.announced.tell(2 * UPLOAD_PIECE_BYTES + 9, is_whole=True)
        assert gateway.receive(PullUpload) == PullUpload("r", 2 * UPLOAD_PIECE_BYTES, CREDIT)
        send_piece(gateway, 2 * UPLOAD_PIECE_BYTES, b"nine byte", is_last=True)
        await_whole(here)

        assert path.read_bytes() == piece + piece + b"nine byte"


def test_an_upload_that_ends_where_it_was_pulled_to_is_whole_without_another_piece(
    gateway: Gateway, engine: Engine, tmp_path: Path
) -> None:
    gateway.introduce()
    growing = fetch(engine, length=UPLOAD_PIECE_BYTES, is_whole=False)

    with fetched_upload(growing, tmp_path) as (_, here):
        gateway.receive(PullUpload)
        send_piece(gateway, 0, bytes(UPLOAD_PIECE_BYTES), is_last=False)
        here.wait(lambda: here.length == UPLOAD_PIECE_BYTES)
        growing.announced.tell(UPLOAD_PIECE_BYTES, is_whole=True)
        await_whole(here)

    assert here.length == UPLOAD_PIECE_BYTES

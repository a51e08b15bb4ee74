"""Both links' sockets, on real ones. Every wait ends with the event, or fails after PATIENCE."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from protocol.keys import generate_keys
from protocol.limits import MAX_FRAME_BYTES
from protocol.sockets import (
    CurveKeys,
    LinkAddresses,
    LinkError,
    bind_router,
    bind_zap,
    connect_dealer,
    link_addresses,
    lock_links,
    make_link_folder,
    zap_answer,
)

PATIENCE_MS = 20_000
QUIET_MS = 300
"""How long nothing may arrive for it to count as refused; a local link takes 1 ms."""

Context = zmq.Context["zmq.Socket[bytes]"]
Socket = zmq.Socket[bytes]


class Links:
    """Opens sockets and keeps them until the end of the test."""

    def __init__(self) -> None:
        self.context: Context = zmq.Context()
        self._sockets: list[Socket] = []

    def bind(self, address: str, keys: CurveKeys | None = None) -> Socket:
        return self._keep(bind_router(self.context, address, keys))

    def connect(self, address: str, keys: CurveKeys | None = None) -> Socket:
        return self._keep(connect_dealer(self.context, address, keys))

    def plain_dealer(self) -> Socket:
        return self._keep(self.context.socket(zmq.DEALER))

    def _keep(self, socket: Socket) -> Socket:
        self._sockets.append(socket)
        return socket

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    made.close()


@pytest.fixture
def address(short_folder: Path) -> str:
    make_link_folder(short_folder)
    return link_addresses("ipc", short_folder).work


def receive(socket: Socket) -> list[bytes]:
    assert socket.poll(PATIENCE_MS), "nothing arrived"
    return socket.recv_multipart()


def say(socket: Socket, frame: bytes) -> None:
    """Send as soon as a connection is there."""
    assert socket.poll(PATIENCE_MS, zmq.POLLOUT), "nobody is connected"
    socket.send(frame, zmq.NOBLOCK)


@contextmanager
def watch(socket: Socket, events: int) -> Iterator[Socket]:
    """A socket that becomes readable when one of these events befalls the given one."""
    try:
        yield socket.get_monitor_socket(events)
    finally:
        socket.disable_monitor()


def await_unwritable(socket: Socket) -> None:
    """Until the socket itself has taken note that its peer is gone, a moment after the event."""
    for _ in range(PATIENCE_MS):
        if not socket.poll(0, zmq.POLLOUT):
            return
        socket.poll(1)
    raise AssertionError("the socket still takes messages")


# --- addresses and the lock ---------------------------------------------------------------------


def test_ipc_means_two_sockets_in_the_data_folder() -> None:
    assert link_addresses("ipc", Path("/data")) == LinkAddresses(
        work="ipc:///data/run/work.sock", control="ipc:///data/run/control.sock"
    )


def test_a_tcp_link_takes_two_ports() -> None:
    assert link_addresses("tcp://10.0.0.5:7000", Path("/data")) == LinkAddresses(
        work="tcp://10.0.0.5:7000", control="tcp://10.0.0.5:7001"
    )


@pytest.mark.parametrize(
    "link",
    [
        "",
        "ipc://x",
        "tcp://",
        "tcp://host",
        "tcp://:7000",
        "tcp://host:0",
        "tcp://host:65535",
        "tcp://host:-1",
        "tcp://host:²",
        "udp://host:7000",
        "http://host:7000",
    ],
)
def test_any_other_link_is_refused(link: str) -> None:
    with pytest.raises(LinkError, match="WORKER_LINK must be"):
        link_addresses(link, Path("/data"))


def test_a_data_folder_too_long_for_sockets_is_refused_before_they_fail() -> None:
    name_bytes = len("/run/control.sock")
    longest = Path("/" + "x" * (107 - name_bytes - 1))

    assert link_addresses("ipc", longest).control.endswith("/run/control.sock")
    with pytest.raises(LinkError, match="choose a shorter DATA_DIR"):
        link_addresses("ipc", Path(f"{longest}x"))


def test_the_longest_data_folder_allowed_can_be_bound(links: Links, short_folder: Path) -> None:
    missing = 107 - len("/run/control.sock") - len(os.fsencode(short_folder)) - 1
    folder = short_folder / ("x" * missing)
    make_link_folder(folder)

    links.bind(link_addresses("ipc", folder).control)

    assert (folder / "run" / "control.sock").is_socket()


def test_only_the_owner_may_enter_the_link_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o777)

    folder = make_link_folder(tmp_path)

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_second_gateway_is_told_who_holds_the_data_folder(tmp_path: Path) -> None:
    holder = lock_links(tmp_path)

    with pytest.raises(LinkError, match=f"in use by the gateway with process id {os.getpid()}:"):
        lock_links(tmp_path)

    os.close(holder)
    os.close(lock_links(tmp_path))


def test_the_lock_of_a_killed_gateway_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, signal; from pathlib import Path; from protocol.sockets import lock_links;"
        "lock_links(Path(sys.argv[1])); print('locked', flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == b"locked\n"
        with pytest.raises(LinkError, match=f"process id {gateway.pid}:"):
            lock_links(tmp_path)
        gateway.kill()

    os.close(lock_links(tmp_path))


# --- plain links --------------------------------------------------------------------------------


def test_a_message_goes_there_and_back(links: Links, address: str) -> None:
    router, dealer = links.bind(address), links.connect(address)

    say(dealer, b"question")
    peer, question = receive(router)
    router.send_multipart([peer, b"answer"])

    assert (question, receive(dealer)) == (b"question", [b"answer"])


def test_a_worker_may_be_there_before_its_gateway(links: Links, address: str) -> None:
    dealer = links.connect(address)
    router = links.bind(address)

    say(dealer, b"hello")

    assert receive(router)[1] == b"hello"


def test_what_is_said_while_no_gateway_is_there_is_not_kept(links: Links, address: str) -> None:
    dealer = links.connect(address)
    with pytest.raises(zmq.Again):
        dealer.send(b"stale", zmq.NOBLOCK)

    router = links.bind(address)
    say(dealer, b"fresh")

    assert receive(router)[1] == b"fresh"


def test_what_was_said_to_a_gateway_that_went_is_not_said_to_the_next(
    links: Links, address: str
) -> None:
    dealer = links.connect(address)
    with watch(dealer, zmq.EVENT_DISCONNECTED) as disconnected:
        with links.bind(address) as router:
            say(dealer, b"first")
            receive(router)
        assert disconnected.poll(PATIENCE_MS)
    await_unwritable(dealer)

    with pytest.raises(zmq.Again):
        dealer.send(b"stale", zmq.NOBLOCK)


def test_sending_to_a_peer_nobody_knows_raises_at_once(links: Links, address: str) -> None:
    router = links.bind(address)

    with pytest.raises(zmq.ZMQError) as caught:
        router.send_multipart([b"stranger", b"hello"], zmq.NOBLOCK)

    assert caught.value.errno == zmq.EHOSTUNREACH


def test_a_message_of_the_largest_size_passes(links: Links, address: str) -> None:
    router, dealer = links.bind(address), links.connect(address)

    say(dealer, b"x" * MAX_FRAME_BYTES)

    assert len(receive(router)[1]) == MAX_FRAME_BYTES


def test_an_oversize_message_drops_its_sender_and_nobody_else(links: Links, address: str) -> None:
    router = links.bind(address)
    good, bad = links.connect(address), links.connect(address)

    with watch(bad, zmq.EVENT_DISCONNECTED) as disconnected:
        say(bad, b"x" * (MAX_FRAME_BYTES + 1))
        assert disconnected.poll(PATIENCE_MS)
    say(good, b"hello")

    assert receive(router)[1] == b"hello"
    assert not router.poll(QUIET_MS)


# --- CURVE --------------------------------------------------------------------------------------


class ZapResponder:
    """Answers libzmq's questions about keys from a thread, as the gateway does from its loop."""

    def __init__(self, context: Context, allowed: frozenset[bytes]) -> None:
        self.answers: list[bytes] = []
        self._allowed = allowed
        self._zap = bind_zap(context)
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._zap:
            poller = zmq.Poller()
            poller.register(self._zap, zmq.POLLIN)
            poller.register(self._end, zmq.POLLIN)
            while self._end not in dict(poller.poll()):
                answer = zap_answer(self._zap.recv_multipart(), self._allowed)
                self.answers.append(answer[2])
                self._zap.send_multipart(answer)

    def close(self) -> None:
        os.close(self._ended)
        self._thread.join()
        os.close(self._end)


@pytest.fixture
def keys() -> tuple[CurveKeys, CurveKeys]:
    """The gateway's, and a worker's that names the gateway's."""
    gateway, worker = generate_keys(), generate_keys()
    return gateway, CurveKeys(worker.public, worker.secret, gateway_public=gateway.public)


@pytest.fixture
def curve(
    links: Links, keys: tuple[CurveKeys, CurveKeys]
) -> Iterator[tuple[Socket, str, ZapResponder]]:
    """A gateway's tcp end that allows the worker key of `keys`, and its address."""
    responder = ZapResponder(links.context, frozenset({keys[1].public}))
    router = links.bind("tcp://127.0.0.1:*", keys[0])
    yield router, router.getsockopt_string(zmq.LAST_ENDPOINT), responder
    responder.close()


def test_an_allowed_key_passes(
    links: Links,
    curve: tuple[Socket, str, ZapResponder],
    keys: tuple[CurveKeys, CurveKeys],
) -> None:
    router, address, _ = curve

    dealer = links.connect(address, keys[1])
    say(dealer, b"hello")
    peer, hello = receive(router)
    router.send_multipart([peer, b"welcome"])

    assert (hello, receive(dealer)) == (b"hello", [b"welcome"])


def test_a_key_that_is_not_on_the_list_does_not_pass(
    links: Links,
    curve: tuple[Socket, str, ZapResponder],
    keys: tuple[CurveKeys, CurveKeys],
) -> None:
    router, address, responder = curve
    stranger = generate_keys()
    own = CurveKeys(stranger.public, stranger.secret, gateway_public=keys[0].public)

    dealer = links.connect(address, own)
    with watch(dealer, zmq.EVENT_HANDSHAKE_FAILED_AUTH) as refused:
        assert refused.poll(PATIENCE_MS)

    assert b"400" in responder.answers
    assert not dealer.poll(0, zmq.POLLOUT)
    assert not router.poll(0)


def test_a_worker_that_trusts_another_gateway_does_not_pass(
    links: Links,
    curve: tuple[Socket, str, ZapResponder],
    keys: tuple[CurveKeys, CurveKeys],
) -> None:
    _, address, responder = curve
    misled = CurveKeys(keys[1].public, keys[1].secret, gateway_public=generate_keys().public)

    dealer = links.connect(address, misled)

    assert not dealer.poll(QUIET_MS, zmq.POLLOUT)
    assert responder.answers == []


def test_a_peer_without_keys_does_not_pass(
    links: Links, curve: tuple[Socket, str, ZapResponder]
) -> None:
    router, address, _ = curve
    plain = links.plain_dealer()

    with watch(plain, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED) as refused:
        plain.connect(address)
        plain.send(b"hello")
        assert refused.poll(PATIENCE_MS)

    assert not router.poll(QUIET_MS)


def test_a_tcp_link_without_keys_is_refused_on_both_ends(links: Links) -> None:
    for open_end in (links.bind, links.connect):
        with pytest.raises(LinkError, match="a tcp link needs keys"):
            open_end("tcp://127.0.0.1:7000")


def test_an_address_that_is_taken_is_named(links: Links) -> None:
    keys = generate_keys()
    address = links.bind("tcp://127.0.0.1:*", keys).getsockopt_string(zmq.LAST_ENDPOINT)

    with pytest.raises(LinkError, match=f"cannot listen at {address}: Address already in use"):
        links.bind(address, keys)


def test_a_worker_must_name_the_gateways_key(links: Links) -> None:
    with pytest.raises(LinkError, match="gateway's public key"):
        links.connect("tcp://127.0.0.1:7000", generate_keys())


@pytest.mark.parametrize(
    "question",
    [
        [],
        [b"1.0"],
        [b"1.0", b"7", b"", b"", b"", b"NULL"],
        [b"1.0", b"7", b"", b"", b"", b"PLAIN", b"user", b"password"],
        [b"1.0", b"7", b"", b"", b"", b"CURVE"],
        [b"1.0", b"7", b"", b"", b"", b"CURVE", b"short"],
        [b"2.0", b"7", b"", b"", b"", b"CURVE", b"\x01" * 32],
    ],
)
def test_questions_that_are_no_curve_key_are_answered_no(question: list[bytes]) -> None:
    answer = zap_answer(question, frozenset({zmq.utils.z85.encode(b"\x01" * 32)}))

    assert answer[2] == b"400"
    assert len(answer) == 6

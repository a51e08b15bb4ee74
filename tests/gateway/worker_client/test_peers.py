"""Who is connected."""

from gateway.worker_client.peers import SILENCE_LIMIT, Peers


def test_a_stranger_has_no_name() -> None:
    assert Peers[str]().heard(b"p", 0.0) is None


def test_a_peer_that_said_hello_is_known_and_reachable() -> None:
    peers = Peers[str]()

    assert peers.join(b"p", "one", 0.0)
    assert peers.heard(b"p", 1.0) == "one"
    assert peers.route("one") == b"p"


def test_a_living_name_is_not_taken_over() -> None:
    peers = Peers[str]()
    peers.join(b"p", "one", 0.0)

    assert not peers.join(b"q", "one", 0.0)
    assert peers.route("one") == b"p"


def test_a_name_is_free_again_after_its_peer_left() -> None:
    peers = Peers[str]()
    peers.join(b"p", "one", 0.0)
    peers.leave(b"p")

    assert peers.join(b"q", "one", 0.0)


def test_a_peer_is_silent_after_three_missed_heartbeats() -> None:
    peers = Peers[str]()
    peers.join(b"p", "one", 0.0)

    assert peers.silent(SILENCE_LIMIT) == []
    assert peers.silent(SILENCE_LIMIT + 0.1) == [b"p"]
    peers.heard(b"p", SILENCE_LIMIT + 0.1)
    assert peers.silent(SILENCE_LIMIT + 0.2) == []


def test_silence_while_we_were_away_is_forgiven() -> None:
    peers = Peers[str]()
    peers.join(b"p", "one", 0.0)
    peers.forgive(100.0)

    assert peers.silent(100.1) == []


def test_a_stranger_is_asked_once_a_heartbeat_however_much_it_sends() -> None:
    peers = Peers[str]()

    assert [peers.should_ask(b"p", now) for now in (0.0, 0.0, 0.1, 1.0)] == [
        True,
        False,
        False,
        True,
    ]
    assert peers.should_ask(b"q", 1.0)

"""A client of jaaacki/qwen3-asr's /ws/transcribe, written from what that server promised alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests import speech
from tests.clients.conftest import SAID, TURN, clip
from tests.together.processes import DEADLINE, Server
from tests.together.realtime_client import pcm

CALL = "digits_long.flac"
SILENCE = np.zeros(speech.SAMPLE_RATE, np.float32)
PACKET_BYTES = 3200

Message = dict[str, Any]


class Client:
    """One connection; it knows three kinds of message: answers to actions, partials, finals."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.connected = self.receive()
        self.partials: list[str] = []
        self.finals: list[str] = []

    def say(self, content: bytes) -> None:
        for start in range(0, len(content), PACKET_BYTES):
            self.socket.send(content[start : start + PACKET_BYTES])

    def receive(self) -> Message:
        message: Message = json.loads(self.socket.recv(DEADLINE))
        return message

    def act(self, action: str, **fields: object) -> None:
        self.socket.send(json.dumps({"action": action, **fields}))

    def answer(self) -> Message:
        """The next message that is no transcription; those are kept."""
        while "text" in (message := self.receive()):
            self.keep(message)
        return message

    def final(self) -> str:
        """The next final."""
        count = len(self.finals)
        while len(self.finals) == count:
            self.keep(self.receive())
        return self.finals[-1]

    def partial(self) -> str:
        """The next partial."""
        count = len(self.partials)
        while len(self.partials) == count:
            self.keep(self.receive())
        return self.partials[-1]

    def flush(self) -> str:
        self.act("flush")
        return self.final()

    def keep(self, message: Message) -> None:
        assert set(message) == {"text", "is_partial", "is_final"}, message
        assert message["is_partial"] is not message["is_final"]
        if message["is_partial"]:
            assert message["text"]
        (self.finals if message["is_final"] else self.partials).append(message["text"])


@contextmanager
def connected(server: Server, **query: object) -> Iterator[Client]:
    url = f"ws://127.0.0.1:{server.port}/ws/transcribe?{urlencode(query)}"
    with connect(url, proxy=None, close_timeout=0.1) as socket:
        yield Client(socket)


@pytest.mark.parametrize(
    ("query", "sample_rate", "uses_vad"),
    [
        ({}, 16_000, True),
        ({"sample_rate": 8000}, 8000, True),
        ({"use_server_vad": "yes"}, 16_000, True),
        ({"use_server_vad": "false"}, 16_000, False),
    ],
)
def test_the_first_message_says_how_audio_is_taken(
    server: Server, query: dict[str, object], sample_rate: int, uses_vad: bool
) -> None:
    with connected(server, **query) as client:
        assert (
            client.connected.items()
            >= {
                "status": "connected",
                "sample_rate": sample_rate,
                "format": "pcm_s16le",
                "buffer_size": 14_400,
                "window_max_s": 6.0,
                "use_server_vad": uses_vad,
            }.items()
        )


@pytest.mark.parametrize("sample_rate", [16_000, 8000])
def test_speech_gives_partials_and_the_silence_behind_it_a_final(
    server: Server, sample_rate: int
) -> None:
    with connected(server, sample_rate=sample_rate) as client:
        content = pcm(np.concatenate([clip(TURN), SILENCE]), sample_rate)
        client.say(content[: len(content) // 2])
        partial = client.partial()
        client.say(content[len(content) // 2 :])
        assert client.final() == SAID[TURN]

    assert partial.split()[0] == SAID[TURN].split()[0]


@pytest.mark.parametrize("vad", ["true", "false"])
@pytest.mark.parametrize("sample_rate", [16_000, 8000])
def test_a_flush_gives_what_was_said_so_far_in_one_final(
    server: Server, sample_rate: int, vad: str
) -> None:
    with connected(server, sample_rate=sample_rate, use_server_vad=vad) as client:
        client.say(pcm(clip(TURN), sample_rate))

        assert client.flush() == SAID[TURN]
        assert client.flush() == ""
        client.say(pcm(clip(TURN), sample_rate))
        assert client.flush() == SAID[TURN]
    assert client.finals == [SAID[TURN], "", SAID[TURN]]


@pytest.mark.parametrize("vad", ["true", "false"])
def test_a_whole_call_sent_at_once_is_told_before_its_flush_is_answered(
    server: Server, vad: str
) -> None:
    with connected(server, use_server_vad=vad) as client:
        client.say(pcm(clip(CALL)))
        client.act("flush")
        client.act("config")
        assert client.answer()["status"] == "configured"

    assert " ".join(client.finals).split() == SAID[CALL].split()
    if vad == "false":
        assert len(client.finals) == 1


def test_a_reset_forgets_what_was_not_told(server: Server) -> None:
    with connected(server, use_server_vad="false") as client:
        client.say(pcm(clip(TURN)))
        client.act("reset")

        assert client.answer() == {"status": "buffer_reset"}
        assert client.flush() == ""
        client.say(pcm(clip(TURN)))
        assert client.flush() == SAID[TURN]


def test_turns_are_left_to_the_client_once_it_says_so(server: Server) -> None:
    with connected(server) as client:
        client.act("config", language="English", use_server_vad=False)
        assert client.answer() == {
            "status": "configured",
            "language": "English",
            "use_server_vad": False,
        }
        client.say(pcm(np.concatenate([clip(TURN), SILENCE, clip(TURN), SILENCE])))
        assert client.flush() == f"{SAID[TURN]} {SAID[TURN]}"
        assert len(client.finals) == 1


def test_a_language_left_open_is_auto(server: Server) -> None:
    with connected(server) as client:
        client.act("config", language=None)

        assert client.answer()["language"] == "auto"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('{"action": "dance"}', "UNKNOWN_ACTION"),
        ("{}", "UNKNOWN_ACTION"),
        ("{", "INVALID_JSON"),
    ],
)
def test_what_is_not_understood_is_said_and_the_connection_stays(
    server: Server, content: str, code: str
) -> None:
    with connected(server) as client:
        client.socket.send(content)
        error = client.answer()
        assert (error["code"], error["statusCode"]) == (code, 400)
        assert error["message"]

        client.say(pcm(clip(TURN)))
        assert client.flush() == SAID[TURN]


def test_a_sample_rate_it_never_took_is_refused_inside_the_connection(server: Server) -> None:
    with connected(server, sample_rate=44_100) as client:
        error = client.connected
        with pytest.raises(ConnectionClosed):
            client.socket.recv(DEADLINE)

    assert (error["code"], error["statusCode"]) == ("UNSUPPORTED_SAMPLE_RATE", 400)

"""Live sessions without a gateway: packets in, events out, on an engine that really infers.

Nothing waits: the listener's rounds and the engine's steps are run by hand, on a clock that moves
with the audio.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from protocol.live import (
    AudioPacket,
    Clear,
    CloseSession,
    Commit,
    Configure,
    Encoding,
    Hypothesis,
    LiveEvent,
    LiveOptions,
    OpenSession,
    SpeechStarted,
    StreamFormat,
    TurnDetection,
    UtteranceDone,
    UtteranceEnded,
)
from worker.audio.live_vad import LiveVad
from worker.engine.interface import Engine
from worker.live.inbox import LiveInbox
from worker.live.listener import Answered, Listener
from worker.live.sessions import LiveSessions

Samples = npt.NDArray[np.float32]
PACKET_SECONDS = 0.02
SERVER_VAD = TurnDetection(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500)
PCM16 = StreamFormat(Encoding.PCM16, 16_000, 1)


def options(**fields: Any) -> LiveOptions:
    return LiveOptions(
        **{
            "language": None,
            "languages": (),
            "prompt": "",
            "keywords": (),
            "turn_detection": SERVER_VAD,
            "wants_partials": True,
            "wants_logprobs": False,
        }
        | fields
    )


def pcm16(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()


def mulaw(samples: Samples) -> bytes:
    """G.711 by its definition: a sign, the chord the magnitude lies in, the step in the chord."""
    linear = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int32)
    magnitude = np.minimum(np.abs(linear), 32635) + 132
    chord = np.log2(magnitude).astype(np.int32) - 7
    step = (magnitude >> (chord + 3)) & 15
    sign = np.where(linear < 0, 0x80, 0)
    return bytes((~(sign | (chord << 4) | step) & 0xFF).astype(np.uint8))


def alaw(samples: Samples) -> bytes:
    linear = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int32)
    magnitude = np.minimum(np.abs(linear), 32767) >> 3
    chord = np.maximum(np.log2(np.maximum(magnitude, 1)).astype(np.int32) - 4, 0)
    step = np.where(chord > 0, magnitude >> chord, magnitude >> 1) & 15
    sign = np.where(linear >= 0, 0x80, 0)
    return bytes(((sign | (chord << 4) | step) ^ 0x55).astype(np.uint8))


def resampled(samples: Samples, rate: int) -> Samples:
    return np.asarray(soxr.resample(samples, 16_000, rate), np.float32)


class Road:
    """One engine process's live half."""

    def __init__(self, engine: Engine, *, max_seconds: float = 30.0) -> None:
        self.engine = engine
        self.now = 100.0
        self.events: list[LiveEvent] = []
        self.listener = Listener(
            LiveVad, deliver=self._deliver, max_seconds=max_seconds, clock=self.clock
        )
        self.sessions = LiveSessions(
            engine,
            send=self.events.append,
            answered=lambda session: self.listener.take(Answered(session)),
            clock=self.clock,
        )
        self.inbox = LiveInbox(loop=self._deliver, listener=self.listener.take)

    def clock(self) -> float:
        return self.now

    def _deliver(self, event: Any) -> None:
        if isinstance(event, OpenSession):
            self.sessions.open(event)
        else:
            for news in event:
                self.sessions.heard(news)

    def open(
        self,
        session_id: str = "call",
        form: StreamFormat = PCM16,
        *,
        attempt: int = 1,
        start: int = 0,
        taken: tuple[int, ...] = (),
        **fields: Any,
    ) -> None:
        self.inbox.deliver(OpenSession(session_id, attempt, form, options(**fields), start, taken))

    def say(
        self,
        content: bytes,
        session_id: str = "call",
        form: StreamFormat = PCM16,
        *,
        start: int = 0,
        packet_seconds: float = PACKET_SECONDS,
        is_live: bool = True,
    ) -> None:
        """The content in packets, each followed by whatever the engine then has to do. Those of a
        replay are there at once."""
        size = round(packet_seconds * form.sample_rate) * form.frame_bytes
        for offset in range(0, len(content), size):
            packet = content[offset : offset + size]
            self.inbox.deliver(AudioPacket(session_id, start + offset // form.frame_bytes, packet))
            self.now += is_live * len(packet) / form.bytes_per_second
            self.settle()

    def settle(self) -> None:
        """Everything that is there is heard and inferred."""
        while True:
            self.listener.turn()
            if not self.engine.has_work:
                if not self.listener._has_work:
                    return
                continue
            for key, answer in self.engine.step(lambda: None):
                if self.sessions.is_step(key):
                    self.sessions.take_answer(key, answer)

    def tell(self, message: Commit | Clear | Configure | CloseSession) -> None:
        self.inbox.deliver(message)
        self.settle()

    def commit(self, session_id: str = "call") -> None:
        self.tell(Commit(session_id))

    def close(self, session_id: str = "call") -> None:
        self.tell(CloseSession(session_id))

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def finals(self) -> list[UtteranceDone]:
        return self.of(UtteranceDone)

    @property
    def text(self) -> str:
        return " ".join(final.text for final in self.finals if final.text)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * 16_000), np.float32)


def in_silence(samples: Samples, seconds: float = 1.0) -> Samples:
    return np.concatenate([silence(seconds), samples, silence(seconds)])


def story(events: Iterable[LiveEvent]) -> Iterator[str]:
    """The events of utterances, by name, without the texts under way."""
    for event in events:
        if isinstance(event, SpeechStarted | UtteranceEnded | UtteranceDone):
            yield f"{type(event).__name__} {event.channel}"


def hypotheses(events: Iterable[LiveEvent], utterance: int) -> list[Hypothesis]:
    return [
        event for event in events if isinstance(event, Hypothesis) and event.utterance == utterance
    ]

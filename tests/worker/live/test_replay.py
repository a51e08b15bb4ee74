"""A session that goes on in another engine: what it still needs is sent again, and its texts are
those of a session that nothing happened to."""

from dataclasses import dataclass

import numpy as np
import pytest

from protocol.live import Encoding, StreamFormat, UtteranceDone
from tests.worker.engine.test_native import TEXTS, loaded, speech
from tests.worker.live.road import PCM16, Road, Samples, mulaw, pcm16, resampled, silence
from worker.engine.native import NativeEngine

MULAW = StreamFormat(Encoding.MULAW, 8_000, 1)
STEREO = StreamFormat(Encoding.PCM16, 16_000, 2)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return loaded()


def call(*pauses: float) -> Samples:
    """All clips, each followed by so long a pause."""
    parts = [silence(0.7)]
    for name, pause in zip(TEXTS, pauses, strict=True):
        parts += [speech(name), silence(pause)]
    return np.concatenate(parts)


class SlowRoad(Road):
    """An engine that answers nothing from some moment on."""

    is_stuck = False

    def settle(self) -> None:
        if not self.is_stuck:
            super().settle()
            return
        while True:
            self.listener.turn()
            if not self.listener._has_work:
                return


@dataclass
class Gateway:
    """What it knows of a session when an engine dies."""

    form: StreamFormat
    content: bytes
    acknowledged: int = 0
    taken: tuple[int, ...] = ()
    attempt: int = 0
    finals: tuple[UtteranceDone, ...] = ()

    def send(
        self,
        engine: NativeEngine,
        until: float,
        *,
        stuck_from: float = 1.0,
        packet_seconds: float = 0.02,
    ) -> None:
        """To the next engine, from what is still needed up to this share of the call. It answers
        nothing behind the share `stuck_from`."""
        self.attempt += 1
        road = SlowRoad(engine)
        road.open(form=self.form, attempt=self.attempt, start=self.acknowledged, taken=self.taken)
        size = self.form.frame_bytes
        frames = len(self.content) // size
        stuck, last = round(min(stuck_from, until) * frames), round(until * frames)
        stuck = max(stuck, self.acknowledged)
        for start, end in ((self.acknowledged, stuck), (stuck, last)):
            road.is_stuck = end > stuck
            road.say(
                self.content[start * size : end * size],
                form=self.form,
                start=start,
                packet_seconds=packet_seconds,
                is_live=packet_seconds < 1,
            )
        if until == 1.0:
            road.close()
        self._note(road)

    def _note(self, road: Road) -> None:
        taken = list(self.taken or (0,) * self.form.channels)
        for done in road.finals:
            assert done.start >= taken[done.channel] - 1
            taken[done.channel] = done.end
        self.taken = tuple(taken)
        self.finals += tuple(road.finals)
        positions = [event.acknowledged for event in road.events if hasattr(event, "acknowledged")]
        self.acknowledged = max([self.acknowledged, *positions])
        road.sessions.forget_all()  # dead: the engine is used for the next

    def texts(self, channel: int = 0) -> str:
        return " ".join(each.text for each in self.finals if each.channel == channel and each.text)


@pytest.mark.parametrize("seed", range(4))
def test_no_word_is_lost_and_none_told_twice_whenever_engines_die(
    engine: NativeEngine, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gateway = Gateway(PCM16, pcm16(call(*rng.uniform(0.2, 2.0, 3))))

    for until in sorted(rng.uniform(0, 1, 3)):
        gateway.send(engine, until)
    gateway.send(engine, 1.0)

    assert gateway.texts() == " ".join(TEXTS.values())


@pytest.mark.parametrize("stuck_from", [0.02, 0.25, 0.5])
def test_what_an_engine_left_unanswered_is_answered_by_the_next(
    engine: NativeEngine, stuck_from: float
) -> None:
    gateway = Gateway(PCM16, pcm16(call(1.0, 1.0, 1.0)))

    gateway.send(engine, 0.95, stuck_from=stuck_from)
    answered = len(gateway.finals)
    gateway.send(engine, 1.0)

    assert answered < 3
    assert gateway.texts() == " ".join(TEXTS.values())


def test_a_telephone_call_is_heard_again_in_large_packets(engine: NativeEngine) -> None:
    content = mulaw(resampled(call(1.0, 1.0, 1.0), 8_000))
    gateway = Gateway(MULAW, content)

    gateway.send(engine, 0.05)
    gateway.send(engine, 0.7, packet_seconds=8.0)
    gateway.send(engine, 1.0, packet_seconds=8.0)

    assert gateway.texts() == " ".join(TEXTS.values())


@pytest.mark.parametrize("until", [0.3, 0.6])
def test_each_channel_goes_on_where_its_last_text_ended(engine: NativeEngine, until: float) -> None:
    left, right = call(0.3, 1.5, 1.0), call(1.5, 0.3, 1.0)
    both = np.stack([left, right], axis=1).reshape(-1)
    gateway = Gateway(STEREO, pcm16(both))

    gateway.send(engine, until)
    gateway.send(engine, 1.0)

    assert gateway.texts(0) == gateway.texts(1) == " ".join(TEXTS.values())


def test_what_is_answered_and_silent_is_not_needed_again(engine: NativeEngine) -> None:
    gateway = Gateway(PCM16, pcm16(np.concatenate([call(1.0, 1.0, 1.0), silence(10.0)])))

    gateway.send(engine, 1.0)

    assert len(gateway.content) // 2 - gateway.acknowledged < 3 * 16_000

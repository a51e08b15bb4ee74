"""Speech through live sessions on the embedded model: the same words as from a file, and none
where nobody speaks."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from protocol.live import (
    Encoding,
    EndReason,
    Hypothesis,
    Strategy,
    StreamFormat,
    UtteranceDone,
    UtteranceEnded,
    UtteranceFailed,
)
from tests.speech import (
    KNOWN_SPEAKERS,
    UNSEEN_SPEAKER,
    at_level,
    digit_strings,
    needs_human_speech,
    non_speech_clips,
    with_noise,
    word_error_rate,
)
from tests.worker.engine.test_native import TEXTS, finished, loaded, speech
from tests.worker.live.hearing import detecting
from tests.worker.live.road import (
    PCM16,
    Road,
    Samples,
    alaw,
    hypotheses,
    in_silence,
    mulaw,
    pcm16,
    resampled,
    silence,
)
from worker.engine.interface import ChunkKey, ChunkRequest, ChunkText
from worker.engine.native import NativeEngine

SPEAKERS = (UNSEEN_SPEAKER, *KNOWN_SPEAKERS)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return loaded()


def heard_live(engine: NativeEngine, samples: Samples, **fields: Any) -> Road:
    road = Road(engine)
    road.open(**fields)
    road.say(pcm16(samples))
    road.close()
    return road


def heard_whole(engine: NativeEngine, samples: Samples, **fields: Any) -> str:
    """As a chunk of a file."""
    engine.submit(("whole", 0), ChunkRequest(samples, **fields))
    (answer,) = finished(engine).values()
    assert isinstance(answer, ChunkText)
    return answer.text


def every_text(road: Road) -> list[str]:
    shown = [event.stable + event.tail for event in road.of(Hypothesis)]
    return [*shown, *(done.text for done in road.finals)]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (PCM16, pcm16),
        (StreamFormat(Encoding.PCM16, 24_000, 1), lambda s: pcm16(resampled(s, 24_000))),
        (StreamFormat(Encoding.PCM16, 44_100, 1), lambda s: pcm16(resampled(s, 44_100))),
        (StreamFormat(Encoding.MULAW, 8_000, 1), lambda s: mulaw(resampled(s, 8_000))),
        (StreamFormat(Encoding.ALAW, 8_000, 1), lambda s: alaw(resampled(s, 8_000))),
    ],
    ids=["16 kHz", "24 kHz", "44.1 kHz", "mu-law", "A-law"],
)
def test_a_call_says_what_the_file_says(
    engine: NativeEngine, form: StreamFormat, written: Any
) -> None:
    for name, text in TEXTS.items():
        road = Road(engine)
        road.open(form=form)
        road.say(written(in_silence(speech(name))), form=form)
        road.close()

        assert road.text == text


def test_channels_are_told_apart(engine: NativeEngine) -> None:
    left, right = in_silence(speech("british")), in_silence(speech("american"), 2.0)
    length = max(len(left), len(right))
    both = np.stack([np.pad(each, (0, length - len(each))) for each in (left, right)], axis=1)
    form = StreamFormat(Encoding.PCM16, 16_000, 2)
    road = Road(engine)
    road.open(form=form)

    road.say(pcm16(both.reshape(-1)), form=form)
    road.close()

    texts = [
        " ".join(done.text for done in road.finals if done.channel == channel) for channel in (0, 1)
    ]
    assert texts == [TEXTS["british"], TEXTS["american"]]


def test_who_commits_gets_the_text_of_what_was_sent(engine: NativeEngine) -> None:
    road = Road(engine)
    road.open(turn_detection=None)
    for name in TEXTS:
        road.say(pcm16(in_silence(speech(name), 0.2)))
        road.commit()
    road.commit()  # of nothing
    road.close()

    assert [done.text for done in road.finals] == [*TEXTS.values(), ""]
    assert {event.reason for event in road.of(UtteranceEnded)} == {EndReason.COMMIT}
    assert road.of(Hypothesis)


def test_tokens_of_a_final_are_its_text(engine: NativeEngine) -> None:
    for name, text in TEXTS.items():
        (done,) = heard_live(engine, in_silence(speech(name)), wants_logprobs=True).finals

        assert b"".join(token.content for token in done.tokens).decode() == done.text == text


def test_the_official_strategy_hears_the_same_words_here(engine: NativeEngine) -> None:
    for name, text in TEXTS.items():
        road = heard_live(engine, in_silence(speech(name)), strategy=Strategy.ROLLBACK)

        assert road.text == text


def live_and_whole(engine: NativeEngine, count: int) -> tuple[float, float]:
    """Word error rates of strings of each speaker, live and as files."""
    live, whole = [], []
    for speaker in SPEAKERS:
        for string in digit_strings(speaker, count, seed=5):
            samples = in_silence(string.samples)
            live.append((string.text, heard_live(engine, samples).text))
            whole.append((string.text, heard_whole(engine, samples)))
    return word_error_rate(live), word_error_rate(whole)


@needs_human_speech
def test_people_are_heard_live_as_well_as_in_files(engine: NativeEngine) -> None:
    live, whole = live_and_whole(engine, count=1)

    assert live <= whole + 0.01


@needs_human_speech
@pytest.mark.long
def test_many_people_are_heard_live_as_well_as_in_files(engine: NativeEngine) -> None:
    live, whole = live_and_whole(engine, count=25)

    assert live <= whole + 0.005


@needs_human_speech
@pytest.mark.long
def test_of_many_utterances_at_most_one_in_a_hundred_denies_what_was_told(
    engine: NativeEngine,
) -> None:
    finals = [
        done
        for speaker in SPEAKERS
        for string in digit_strings(speaker, 50, seed=5)
        for done in heard_live(engine, in_silence(string.samples)).finals
    ]

    assert len(finals) >= 400
    assert sum(done.contradicts_stable for done in finals) <= 0.01 * len(finals)


class Overheard:
    """The engine, and every step it was asked for and answered."""

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self.answered: list[tuple[ChunkRequest, ChunkText]] = []
        self._asked: dict[ChunkKey, ChunkRequest] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        self._asked[key] = chunk
        self._engine.submit(key, chunk)

    def step(self, on_step: Any) -> Any:
        answers = self._engine.step(on_step)
        for key, answer in answers:
            assert isinstance(answer, ChunkText)
            self.answered.append((self._asked[key], answer))
        return answers


def test_every_text_of_a_growing_utterance_is_what_its_audio_says_afresh(
    engine: NativeEngine,
) -> None:
    overheard = Overheard(engine)
    samples = np.concatenate([silence(1), *map(speech, TEXTS), silence(1)])

    turns = detecting(silence_duration_ms=3000).turn_detection
    road = heard_live(overheard, samples, turn_detection=turns)  # type: ignore[arg-type]

    assert len(overheard.answered) >= 15
    assert any(request.draft for request, _ in overheard.answered)
    for request, answer in overheard.answered:
        assert answer.text == heard_whole(engine, np.array(request.samples))
    shown = {event.stable + event.tail for event in road.of(Hypothesis) if event.tail}
    assert shown <= {answer.text for _, answer in overheard.answered}


def test_told_texts_grow_and_positions_go_forward(engine: NativeEngine) -> None:
    samples = np.concatenate([in_silence(speech(name)) for name in TEXTS])

    road = heard_live(engine, samples)

    acknowledged = [event.acknowledged for event in road.events if hasattr(event, "acknowledged")]
    heard = [event.heard for event in road.events if hasattr(event, "heard")]
    assert acknowledged == sorted(acknowledged)
    assert heard == sorted(heard)
    for done in road.finals:
        told = hypotheses(road.events, done.utterance)
        covers = [event.covers for event in told]
        assert covers == sorted(covers)
        for before, after in pairwise(told):
            assert after.stable.startswith(before.stable)
        assert done.text.startswith(told[-1].stable)
        assert told[-1].stable


def test_each_ended_utterance_is_answered_once(engine: NativeEngine) -> None:
    samples = np.concatenate([in_silence(speech(name)) for name in TEXTS])

    road = heard_live(engine, samples)

    ended = [event.utterance for event in road.of(UtteranceEnded)]
    assert len(ended) >= 3
    assert [event.utterance for event in road.of(UtteranceDone, UtteranceFailed)] == ended


def test_speech_without_a_pause_is_cut_where_it_is_quiet_and_loses_no_word(
    engine: NativeEngine,
) -> None:
    strings = [speech(name) for name in TEXTS]
    expected = " ".join(TEXTS.values())
    rounds = round(70 / (sum(map(len, strings)) / 16_000)) + 1
    samples = np.concatenate([silence(1), *(strings * rounds), silence(1)])

    road = Road(engine)
    road.open(turn_detection=detecting(silence_duration_ms=5000).turn_detection, step_seconds=2.0)
    road.say(pcm16(samples))
    road.close()

    assert len(samples) > 70 * 16_000
    assert all(done.end - done.start <= 30 * 16_000 for done in road.finals)
    reasons = [event.reason for event in road.of(UtteranceEnded)]
    assert reasons[:2] == [EndReason.FORCED, EndReason.FORCED]
    assert road.text == " ".join([expected] * rounds)
    for before, after in pairwise(road.finals):
        assert after.start == before.end


# --- where nobody speaks ------------------------------------------------------------------------


def check_silent(engine: NativeEngine, samples: Samples, name: str, **fields: Any) -> None:
    road = heard_live(engine, in_silence(samples, 0.5), **fields)

    assert "".join(every_text(road)) == "", name


def test_sounds_without_words_give_no_text(engine: NativeEngine) -> None:
    for clip in non_speech_clips()[::8]:
        check_silent(engine, clip.samples, clip.name)


@pytest.mark.long
def test_no_sound_without_words_gives_text(engine: NativeEngine) -> None:
    for clip in non_speech_clips():
        check_silent(engine, clip.samples, clip.name)


def test_the_callers_words_are_not_heard_in_silence_and_noise(engine: NativeEngine) -> None:
    rng = np.random.default_rng(3)
    for level in (0.0, 1e-4, 1e-2, 0.1):
        noise = rng.normal(0, 1, 3 * 16_000).astype(np.float32) * np.float32(level)
        for threshold in (0.5, 0.0):  # also where everything counts as speech
            turns = detecting(threshold=threshold).turn_detection
            words = {"prompt": "A call about seven eight nine.", "keywords": ("seven", "eight")}
            check_silent(engine, noise, f"noise {level}", turn_detection=turns, **words)


def test_nothing_of_an_utterance_comes_back_in_the_silence_behind_it(engine: NativeEngine) -> None:
    rng = np.random.default_rng(4)
    hiss = rng.normal(0, 1e-3, 10 * 16_000).astype(np.float32)
    samples = np.concatenate([silence(1), speech("british"), silence(1), hiss, silence(5)])

    road = heard_live(engine, samples)

    assert road.text == TEXTS["british"]
    assert len(road.of(UtteranceEnded)) == len([done for done in road.finals if done.text])


def test_no_preamble_is_told(engine: NativeEngine) -> None:
    samples = in_silence(speech("american"))

    road = heard_live(engine, samples, step_seconds=0.1)

    texts = every_text(road)
    assert len(texts) > 20
    assert not [text for text in texts if "<" in text or "language" in text.lower()]


def test_a_very_quiet_voice_is_heard(engine: NativeEngine) -> None:
    for name, text in TEXTS.items():
        road = heard_live(engine, in_silence(at_level(speech(name), -48.0)))

        assert road.text == text


def test_a_voice_in_noise_is_heard(engine: NativeEngine) -> None:
    for name, text in TEXTS.items():
        samples = with_noise(in_silence(speech(name)), 25, seed=1)

        assert heard_live(engine, samples).text == text

"""From packets to utterances with the real detector: speech is heard, other sounds are not."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from tests import speech
from worker.audio.endpointing import Endpointer
from worker.audio.endpoints import EndpointRules, SpeechEnded
from worker.audio.live_vad import LiveVad, LiveVoiceActivity
from worker.audio.telephony import LiveDecoder

Samples = NDArray[np.float32]

RATE = 16_000
VAD = LiveVad()
CLIPS = Path(__file__).parents[3] / "examples" / "speech"
LINES = [("pcm16", 16_000), ("pcm16", 24_000), ("mulaw", 8_000), ("alaw", 8_000)]
FLEURS = speech.SPEECH_FOLDER / "fleurs"


def packets(samples: Samples, encoding: str, rate: int) -> Iterable[bytes]:
    """As a client sends 16 kHz samples: 20 ms each."""
    narrow = samples if rate == RATE else soxr.resample(samples, RATE, rate)
    linear = np.round(np.clip(narrow, -1, 1) * 32767).astype("<i2")
    content = bytes(linear) if encoding == "pcm16" else bytes(g711_codes(encoding)[linear])
    size = rate // 50 * (2 if encoding == "pcm16" else 1)
    return (content[start : start + size] for start in range(0, len(content), size))


@functools.cache
def g711_codes(encoding: str) -> NDArray[np.uint8]:
    """Linear -> the code whose value is nearest; negative numbers count from the end."""
    values = LiveDecoder(encoding, RATE).feed(bytes(range(256)))[0] * 32768
    order = np.argsort(values, kind="stable")
    middles = (values[order][1:] + values[order][:-1]) / 2
    linear = np.arange(65_536)
    linear[32_768:] -= 65_536
    return order[np.searchsorted(middles, linear)].astype(np.uint8)


def utterances(samples: Samples, encoding: str = "pcm16", rate: int = RATE) -> list[SpeechEnded]:
    decoder = LiveDecoder(encoding, rate)
    stream, endpointer = LiveVoiceActivity(), Endpointer(EndpointRules())
    ended = []
    for packet in packets(samples, encoding, rate):
        ended += listen(decoder.feed(packet)[0], endpointer, stream)
    return ended


def clip(name: str) -> Samples:
    samples, rate = soundfile.read(CLIPS / name, dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


def listen(
    samples: Samples, endpointer: Endpointer, stream: LiveVoiceActivity
) -> list[SpeechEnded]:
    (judged,) = VAD.judge([(stream, samples)])
    events = endpointer.push(judged.probabilities, judged.levels)
    return [event for event in events if isinstance(event, SpeechEnded)]


def in_silence(samples: Samples) -> Samples:
    return np.pad(samples, RATE)


def uncovered(samples: Samples, found: list[SpeechEnded]) -> float:
    """Share of the sound's energy that is in no utterance."""
    inside = np.zeros(len(samples), np.bool_)
    for each in found:
        inside[each.start : each.end] = True
    power = samples.astype(np.float64) ** 2
    return float(power[~inside].sum() / power.sum())


ONE_UTTERANCE = [
    "digits_american.flac",
    "digits_british.flac",
    "digits_flite.flac",
    "digits_quiet.flac",
    "digits_telephone.flac",
]


@pytest.mark.parametrize(("encoding", "rate"), LINES)
@pytest.mark.parametrize("name", ONE_UTTERANCE)
def test_a_clip_in_silence_is_one_utterance_on_every_line(
    name: str, encoding: str, rate: int
) -> None:
    samples = in_silence(clip(name))

    found = utterances(samples, encoding, rate)

    assert len(found) == 1
    assert uncovered(samples, found) < 0.002
    assert found[0].heard_until - found[0].end < 0.35 * RATE


def test_long_pauses_part_utterances_and_every_string_is_in_one() -> None:
    samples = in_silence(clip("digits_long.flac"))
    (said,) = (
        each["said"][0]
        for each in json.loads((CLIPS / "clips.json").read_text())
        if each["file"] == "digits_long.flac"
    )

    found = utterances(samples, "mulaw", 8_000)

    assert 8 <= len(found) <= len(said.split()) // 3
    assert uncovered(samples, found) < 0.002


@pytest.mark.parametrize("lost_at", [1.2, 2.0, 4.0, 4.4, 6.0, 7.6, 9.1, 12.5, 20.0, 30.0])
def test_a_stream_replayed_from_what_is_still_needed_gives_the_same_utterances(
    lost_at: float,
) -> None:
    samples = in_silence(clip("digits_long.flac"))
    first, stream = Endpointer(EndpointRules()), LiveVoiceActivity()
    lost = round(lost_at * RATE)
    before = listen(samples[:lost], first, stream)
    needed = first.needed_from
    second = Endpointer(
        EndpointRules(),
        position=needed,
        taken_until=before[-1].end if before else 0,
        open_from=first.open_from,
    )

    undisturbed = before + listen(samples[lost:], first, stream)
    replayed = before + listen(samples[needed:], second, LiveVoiceActivity())

    assert len(replayed) == len(undisturbed) == 10
    for one, other in zip(replayed, undisturbed, strict=True):
        assert abs(one.start - other.start) <= 0.1 * RATE
        assert abs(one.end - other.end) <= 0.1 * RATE


@pytest.mark.parametrize(("encoding", "rate"), LINES)
@pytest.mark.parametrize("name", ["ringing.flac", "silence.flac"])
def test_a_line_that_only_rings_has_no_utterance(name: str, encoding: str, rate: int) -> None:
    assert utterances(in_silence(clip(name)), encoding, rate) == []


@pytest.mark.parametrize("dbfs", [-30, -48, -54])
@pytest.mark.parametrize(("encoding", "rate"), LINES[1:3])
def test_a_caller_who_is_hardly_heard_is_not_lost(dbfs: float, encoding: str, rate: int) -> None:
    samples = in_silence(speech.at_level(clip("digits_american.flac"), dbfs))

    assert uncovered(samples, utterances(samples, encoding, rate)) < 0.01


@pytest.mark.skipif(not FLEURS.exists(), reason=f"needs human recordings: {FLEURS} is missing")
@pytest.mark.parametrize("name", ["english_01", "chinese_01", "hindi_01", "thai_01"])
def test_people_are_heard_on_the_telephone(name: str) -> None:
    samples, rate = soundfile.read(FLEURS / f"{name}.wav", dtype="float32")
    assert rate == RATE
    samples = in_silence(samples)

    assert uncovered(samples, utterances(samples, "mulaw", 8_000)) < 0.03


@speech.needs_human_speech
@pytest.mark.parametrize("dbfs", [-20, -48])
def test_single_words_are_heard_on_the_telephone(dbfs: float) -> None:
    takes = [take for digit in speech.held_out(speech.UNSEEN_SPEAKER) for take in digit[:3]]
    missed = [
        index
        for index, take in enumerate(takes)
        if not utterances(in_silence(speech.at_level(take, dbfs)), "alaw", 8_000)
    ]

    assert len(takes) == 30
    assert len(missed) <= 1


def test_sounds_that_are_no_speech_start_no_utterance() -> None:
    sounds = speech.non_speech_clips()
    heard = set()
    streams = [(LiveVoiceActivity(), sound.samples) for sound in sounds]
    for sound, judged in zip(sounds, VAD.judge(streams), strict=True):
        endpointer = Endpointer(EndpointRules())
        if endpointer.push(judged.probabilities, judged.levels):
            heard.add(sound.name)
    music = {name for name in heard if name.startswith(("chords", "arpeggio", "melody"))}

    assert heard - music == set()
    assert len(music) <= 2  # of 24; one plucked note is like a syllable

"""People speaking six languages, through every format of the running server.

Needs the recordings of ../shared/speech; skipped without them. The embedded model does not know
these languages: what is looked at is the form of its answers.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pysubs2
import pytest
import soundfile
import soxr
import srt
import webvtt

from gateway.formats.cue_checks import SOFT, violations
from gateway.formats.cue_rules import rules_for
from gateway.formats.cues import Cue, CueWord
from protocol.languages import parse_language
from tests import speech
from tests.gateway.test_openapi_answers import EVENT_SCHEMAS, assert_fits, data_lines
from tests.together.processes import Server, serving

pytestmark = speech.needs_human_speech

LANGUAGES = ("en", "zh", "yue", "ja", "hi", "th")
FRAME = 0.04
"""Seconds: what a cue may last beyond the end of a recording, when it begins there."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def clips_of(language: str) -> list[Path]:
    """Two clips in that language; the first English one is in 24 bits and stereo."""
    clips = json.loads((speech.SPEECH_FOLDER / "clips.json").read_text("utf-8"))
    files = [clip["file"] for clip in clips if clip["language"] == language]
    return [speech.SPEECH_FOLDER / file for file in files[:2]]


def heard(server: Server, clip: Path, language: str, **fields: Any) -> str:
    """The body of an answer."""
    fields = {"language": language, **fields}
    answer = server.client.post(
        "/v1/audio/transcriptions", files={"file": ("a.wav", clip.read_bytes())}, data=fields
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def written(server: Server, clip: Path, language: str, response_format: str) -> str:
    return heard(server, clip, language, response_format=response_format)


def assert_cues_hold(cues: Sequence[Cue], language: str, clip: Path) -> None:
    """The rules that no speech excuses, and the recording's end."""
    rules = rules_for(parse_language(language))
    broken = [each for each in violations(cues, rules) if each.rule not in SOFT]
    assert broken == [], clip
    assert not cues or cues[-1].end <= soundfile.info(clip).duration + FRAME


def cue_of(start: float, end: float, text: str) -> Cue:
    words = tuple(CueWord(start, end, word, True) for word in text.split())
    return Cue(start, end, tuple(text.split("\n")), words, None)


def seconds(clock: timedelta) -> float:
    return clock.total_seconds()


def test_json_text_and_verbose_json_agree(server: Server, language: str) -> None:
    for clip in clips_of(language):
        plain = json.loads(written(server, clip, language, "json"))
        verbose = json.loads(
            heard(
                server,
                clip,
                language,
                response_format="verbose_json",
                **{"timestamp_granularities[]": ["word", "segment"]},
            )
        )

        assert_fits("Transcript", plain)
        assert_fits("VerboseTranscript", verbose)
        assert written(server, clip, language, "text") == plain["text"] + "\n"
        assert verbose["text"] == plain["text"] == "".join(s["text"] for s in verbose["segments"])
        assert verbose["duration"] == pytest.approx(soundfile.info(clip).duration, abs=0.01)
        times = [(word["start"], word["end"]) for word in verbose["words"]]
        assert times == sorted(times)
        assert all(0 <= start < end <= verbose["duration"] for start, end in times)
        assert bool(verbose["words"]) == bool(plain["text"])


def test_srt_and_vtt_hold_the_same_cues_which_keep_their_rules(
    server: Server, language: str
) -> None:
    for clip in clips_of(language):
        subtitles = list(srt.parse(written(server, clip, language, "srt")))
        captions = webvtt.from_string(written(server, clip, language, "vtt")).captions

        cues = [cue_of(seconds(s.start), seconds(s.end), s.content) for s in subtitles]
        assert_cues_hold(cues, language, clip)
        assert [each.text for each in captions] == [each.content for each in subtitles]
        assert [each.start_in_seconds for each in captions] == [int(cue.start) for cue in cues]


def test_ass_and_lrc_hold_the_text(server: Server, language: str) -> None:
    for clip in clips_of(language):
        text = json.loads(written(server, clip, language, "json"))["text"]
        karaoke = heard(server, clip, language, response_format="ass", word_times="true")
        ass = pysubs2.SSAFile.from_string(written(server, clip, language, "ass"))
        lit = pysubs2.SSAFile.from_string(karaoke)
        lyrics = written(server, clip, language, "lrc").splitlines()

        shown = [event.plaintext.replace("\n", " ") for event in ass]
        assert "".join(" ".join(shown).split()) == "".join(text.split())
        assert [event.plaintext for event in lit] == [event.plaintext for event in ass]
        assert "".join("".join(line.split("]", 1)[1] for line in lyrics).split()) == "".join(
            text.split()
        )
        assert all(line.startswith("[") for line in lyrics)


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
def test_a_stream_is_the_text_and_tells_its_progress(
    server: Server, language: str, response_format: str
) -> None:
    for clip in clips_of(language):
        text = json.loads(written(server, clip, language, "json"))["text"]
        asked = {"response_format": response_format, "stream": "true", "include[]": "progress"}
        *lines, end = data_lines(heard(server, clip, language, **asked).encode())
        events = [json.loads(line) for line in lines]

        assert end == "[DONE]"
        for event in events:
            assert_fits(EVENT_SCHEMAS[event["type"]], event)
        deltas = [e["delta"] for e in events if e["type"] == "transcript.text.delta"]
        assert "".join(deltas) == events[-1]["text"] == text
        progress = [e for e in events if e["type"] == "transcript.progress"]
        # Of a WAV that was read while it arrived the length is not known before its end.
        percents = [e["percent"] for e in progress if e["percent"] is not None]
        assert percents == sorted(percents)
        length = pytest.approx(soundfile.info(clip).duration, abs=0.01)
        assert (progress[-1]["percent"], progress[-1]["total_seconds"]) == (100, length)


def test_two_speakers_on_two_channels_become_turns(
    server: Server, language: str, tmp_path: Path
) -> None:
    both = conversation(clips_of(language), tmp_path / "call.wav")

    whole = json.loads(written(server, both, language, "diarized_json"))
    streamed = heard(server, both, language, response_format="diarized_json", stream="true")
    *lines, _ = data_lines(streamed.encode())
    events = [json.loads(line) for line in lines]

    assert_fits("DiarizedTranscript", whole)
    for event in events:
        assert_fits(EVENT_SCHEMAS[event["type"]], event)
    assert events[-1]["text"] == whole["text"]
    assert {turn["speaker"] for turn in whole["segments"]} <= {"A", "B"}
    starts = [turn["start"] for turn in whole["segments"]]
    assert starts == sorted(starts)
    turns = [line[0] for line in whole["text"].splitlines()]
    assert turns == [speaker for speaker, _ in groupby(t["speaker"] for t in whole["segments"])]


def conversation(clips: Sequence[Path], path: Path) -> Path:
    """One clip on the left, then the other on the right."""
    first, second = map(mono, clips)
    left = np.concatenate([first, np.zeros(len(second), np.float32)])
    right = np.concatenate([np.zeros(len(first), np.float32), second])
    return speech.write_wav(path, np.column_stack([left, right]))


def mono(clip: Path) -> speech.Samples:
    """The clip's first channel, at 16 kHz."""
    samples, rate = soundfile.read(clip, dtype="float32", always_2d=True)
    resampled: speech.Samples = soxr.resample(samples[:, 0], rate, speech.SAMPLE_RATE)
    return resampled

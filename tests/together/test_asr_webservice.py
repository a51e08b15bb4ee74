"""The whole server with the embedded model, called as Bazarr calls it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import srt

from tests.together.processes import Server, serving

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "speech"
PARAMETERS = {"encode": "false", "video_file": "/films/digits.mkv"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("serve", tmp_path_factory.mktemp("s"), MODEL_ID="embedded") as server:
        yield server


@pytest.fixture(scope="module")
def film() -> bytes:
    """Its sound as `ffmpeg -f s16le -ac 1 -ar 16000` gives it."""
    samples, rate = soundfile.read(EXAMPLES / "digits_american.flac", dtype="float32")
    resampled = np.clip(soxr.resample(samples, rate, 16_000), -1, 1)
    return (resampled * 32767).astype("<i2").tobytes()


def test_bare_samples_become_the_subtitles_of_the_same_speech(server: Server, film: bytes) -> None:
    in_container = server.transcribe((EXAMPLES / "digits_american.flac").read_bytes())
    answer = server.client.post(
        "/asr",
        params={**PARAMETERS, "task": "transcribe", "language": "en", "output": "srt"},
        files={"audio_file": ("audio_file", film)},
    )

    assert answer.status_code == 200, answer.headers
    cues = list(srt.parse(answer.text))
    heard = " ".join(cue.content.replace("\n", " ") for cue in cues)
    assert heard == in_container.json()["text"] != ""
    assert cues[-1].end.total_seconds() <= len(film) / 32_000
    assert server.spool_files() == []


def test_language_of_bare_samples_is_told(server: Server, film: bytes) -> None:
    answer = server.client.post(
        "/detect-language", params=PARAMETERS, files={"audio_file": ("audio_file", film)}
    )

    assert answer.json() == {
        "detected_language": "english",
        "language_code": "en",
        "confidence": 1.0,
    }


def test_silence_has_no_language_and_no_subtitles(server: Server) -> None:
    silence = {"audio_file": ("audio_file", bytes(10 * 32_000))}
    language = server.client.post("/detect-language", params=PARAMETERS, files=silence)
    subtitles = server.client.post("/asr", params={**PARAMETERS, "output": "srt"}, files=silence)

    assert language.json() == {}
    assert (subtitles.status_code, subtitles.content) == (200, b"")

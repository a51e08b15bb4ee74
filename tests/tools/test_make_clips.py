import json

import pytest
import soundfile

from tools.make_clips import FOLDER

DESCRIBED = json.loads((FOLDER / "clips.json").read_text())


def test_every_bundled_clip_is_described() -> None:
    assert {clip["file"] for clip in DESCRIBED} == {path.name for path in FOLDER.glob("*.flac")}


@pytest.mark.parametrize("clip", DESCRIBED, ids=lambda clip: clip["file"])
def test_clip_is_as_described(clip: dict[str, object]) -> None:
    file = soundfile.info(str(FOLDER / str(clip["file"])))

    said = clip["said"]
    assert isinstance(said, list)
    assert (file.samplerate, file.channels) == (16_000, len(said))
    assert file.duration == pytest.approx(clip["seconds"], abs=0.01)


def test_bundled_clips_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000

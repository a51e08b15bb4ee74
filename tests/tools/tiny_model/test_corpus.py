import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tools.tiny_model.corpus import human_training_clips, load_clips, save_clips, to_clip, words


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("3_george_5", "3_george_4", "0_lucas_49", "7_theo_20"):
        tone = 0.1 * np.sin(np.arange(2000))
        soundfile.write(folder / f"{name}.wav", tone, 8000)
    return folder


def test_held_out_recordings_and_the_unseen_speaker_are_never_trained_on(recordings: Path) -> None:
    clips = human_training_clips(recordings)

    assert {(clip.digits, clip.voice) for clip in clips} == {((3,), "george"), ((0,), "lucas")}


def test_an_archive_gives_what_its_folder_gives(recordings: Path, tmp_path: Path) -> None:
    archive = tmp_path / "recordings.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(recordings, "recordings")

    from_folder, from_archive = human_training_clips(recordings), human_training_clips(archive)

    key = {(clip.digits, clip.voice): clip.samples.tobytes() for clip in from_folder}
    assert {(clip.digits, clip.voice): clip.samples.tobytes() for clip in from_archive} == key


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=tmp_path.name):
        human_training_clips(tmp_path)


def test_recordings_are_resampled_to_16_khz_and_scaled_to_one_peak() -> None:
    quiet = (0.01 * np.sin(np.arange(8000) / 10)).astype(np.float32)

    clip = to_clip(quiet, 8000, (1,), "someone")

    assert len(clip.samples) == 16_000
    assert np.abs(clip.samples).max() == pytest.approx(0.7 * 32767, abs=1)


def test_a_silent_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="'two' by someone is silent"):
        to_clip(np.zeros(100, np.float32), 16_000, (2,), "someone")


def test_stored_clips_read_back_the_same(tmp_path: Path) -> None:
    first = to_clip(np.ones(10, np.float32), 16_000, (1, 2), "a")
    second = to_clip(-np.ones(7, np.float32), 16_000, (0,), "b")

    save_clips(tmp_path / "clips.npz", [first, second])
    one, two = load_clips(tmp_path / "clips.npz")

    assert (one.digits, one.voice, two.digits, two.voice) == ((1, 2), "a", (0,), "b")
    assert np.array_equal(one.samples, first.samples)
    assert np.array_equal(two.samples, second.samples)


def test_digits_are_written_as_words() -> None:
    assert words((0, 9, 5)) == "zero nine five"

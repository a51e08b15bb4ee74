"""Recordings through the real child process."""

import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from protocol.failures import FailureCode
from tests.worker.audio.media import (
    FILMS,
    FORMATS,
    RATE,
    flac_bytes,
    tone,
    wav_bytes,
    write_film,
    write_recording,
    write_tracks,
    write_with_cover,
)
from worker.audio import SAMPLE_RATE
from worker.audio.decode_messages import FRAME_HEADER, MAX_TEXT_BYTES
from worker.audio.decoder_process import start_process
from worker.audio.decoding import (
    DEFAULT_LIMITS,
    AudioDecoder,
    DecodedAudio,
    DecodeLimits,
    DecoderFailed,
    DecodingClosed,
    UndecodableAudio,
)

TWO_SECONDS = tone(2.0)
PCM_TONE = (tone(1.0, rate=16_000) * 32_767).astype("<i2").tobytes()


@pytest.fixture
def decoder() -> Iterator[AudioDecoder]:
    with AudioDecoder() as opened:
        yield opened


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """Where an upload lies: the name says nothing of what it is."""
    return tmp_path / "0f3a"


def decoded(
    decoder: AudioDecoder, path: Path, limits: DecodeLimits = DEFAULT_LIMITS
) -> NDArray[np.float32]:
    with decoder.open(path, limits) as recording:
        return np.concatenate([np.zeros(0, np.float32), *recording])


def refusal_of(
    decoder: AudioDecoder, path: Path, limits: DecodeLimits = DEFAULT_LIMITS
) -> UndecodableAudio:
    with pytest.raises(UndecodableAudio) as caught:
        decoded(decoder, path, limits)
    return caught.value


def loudest_hertz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:SAMPLE_RATE]))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(samples[:SAMPLE_RATE])


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_becomes_the_same_tone_at_16_khz_mono(
    decoder: AudioDecoder, upload: Path, ending: str
) -> None:
    write_recording(upload, TWO_SECONDS, ending)

    samples = decoded(decoder, upload)

    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=0.06 * SAMPLE_RATE)
    assert loudest_hertz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("ending", FILMS)
def test_the_sound_of_a_film_is_decoded(decoder: AudioDecoder, upload: Path, ending: str) -> None:
    write_film(upload, TWO_SECONDS, ending)

    samples = decoded(decoder, upload)

    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=0.06 * SAMPLE_RATE)
    assert loudest_hertz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_the_track_that_was_asked_for_is_decoded(
    decoder: AudioDecoder, upload: Path, container: str
) -> None:
    write_tracks(upload, [tone(1.5, hertz=hertz) for hertz in (300.0, 500.0, 900.0)], container)

    heard = []
    for track in range(3):
        with decoder.open(upload, track=track) as recording:
            heard.append(loudest_hertz(np.concatenate(list(recording))))

    assert heard == pytest.approx([300, 500, 900], abs=2)


@pytest.mark.parametrize("track", [2, 99, -1])
def test_a_track_that_is_missing_is_refused_and_the_others_are_counted(
    decoder: AudioDecoder, upload: Path, track: int
) -> None:
    write_tracks(upload, [tone(0.5), tone(0.5)], "matroska")

    with pytest.raises(UndecodableAudio, match=r"it has 2, counted from 0") as caught:
        decoder.open(upload, track=track)

    assert caught.value.code == FailureCode.AUDIO_TRACK_MISSING


def stereo_wav(left: NDArray[np.float32], right: NDArray[np.float32], rate: int) -> bytes:
    both = np.stack([left, right], axis=1)
    return wav_bytes((both * 32_767).astype("<i2").tobytes(), rate=rate, channels=2)


def test_two_channels_stay_apart_where_wished(decoder: AudioDecoder, upload: Path) -> None:
    left, right = tone(12.0, hertz=300.0), tone(12.0, hertz=800.0)
    upload.write_bytes(stereo_wav(left, right, RATE))

    with decoder.open(upload, splits_channels=True) as recording:
        blocks = list(recording)

    assert recording.description.channels == 2
    assert {block.shape[1:] for block in blocks} == {(2,)}
    assert max(map(len, blocks)) <= 10 * SAMPLE_RATE
    samples = np.concatenate(blocks)
    assert len(samples) == pytest.approx(12 * SAMPLE_RATE, abs=10)
    assert loudest_hertz(samples[:, 0]) == pytest.approx(300, abs=2)
    assert loudest_hertz(samples[:, 1]) == pytest.approx(800, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("layout", ["mono", "5.1"])
def test_one_channel_or_more_than_two_are_one_whatever_is_wished(
    decoder: AudioDecoder, upload: Path, layout: str
) -> None:
    write_recording(upload, TWO_SECONDS, "flac", layout=layout)

    with decoder.open(upload, splits_channels=True) as recording:
        samples = np.concatenate(list(recording))

    assert np.array_equal(samples, decoded(decoder, upload))


def test_split_channels_are_as_long_as_the_limit_allows(
    decoder: AudioDecoder, upload: Path
) -> None:
    upload.write_bytes(stereo_wav(tone(3.0), 0.5 * tone(3.0, hertz=900.0), RATE))

    with decoder.open(upload, DecodeLimits(max_seconds=3.1), splits_channels=True) as recording:
        assert sum(map(len, recording)) == pytest.approx(3 * SAMPLE_RATE, abs=10)
    with pytest.raises(UndecodableAudio, match="longer than 2 s"):
        list(decoder.open(upload, DecodeLimits(max_seconds=2), splits_channels=True))


@pytest.mark.parametrize("ending", ["m4a", "mp3", "flac"])
def test_a_picture_on_the_cover_is_passed_over(
    decoder: AudioDecoder, upload: Path, ending: str
) -> None:
    write_with_cover(upload, TWO_SECONDS, ending)

    samples = decoded(decoder, upload)

    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=0.06 * SAMPLE_RATE)
    assert loudest_hertz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("ending", ["mp3", "opus", "flac"])
def test_the_same_file_gives_the_same_samples_each_time(
    decoder: AudioDecoder, upload: Path, ending: str
) -> None:
    write_recording(upload, tone(25.0), ending)

    assert np.array_equal(decoded(decoder, upload), decoded(decoder, upload))


def test_a_recording_comes_in_blocks_that_join_without_a_seam(
    decoder: AudioDecoder, upload: Path
) -> None:
    write_recording(upload, tone(25.0), "wav")

    with decoder.open(upload) as recording:
        blocks = list(recording)

    assert [len(block) for block in blocks] == [160_000, 160_000, 80_000]
    steps = np.abs(np.diff(np.concatenate(blocks)))
    assert steps[150_000:330_000].max() <= 1.01 * steps[1000:2000].max()


def test_the_file_says_what_it_is_before_the_first_block(
    decoder: AudioDecoder, upload: Path
) -> None:
    write_recording(upload, TWO_SECONDS, "flac")

    with decoder.open(upload) as recording:
        description = recording.description

    assert (description.channels, description.sample_rate) == (2, 44_100)
    assert description.duration == pytest.approx(2.0)


def test_two_loud_channels_mix_without_clipping(decoder: AudioDecoder, upload: Path) -> None:
    square = np.where(tone(1.0, rate=16_000) >= 0, 32_767, -32_767).astype("<i2")
    upload.write_bytes(wav_bytes(np.repeat(square, 2).tobytes(), channels=2))

    samples = decoded(decoder, upload)

    assert np.abs(samples).max() == pytest.approx(1.0, abs=0.01)


def test_channels_without_a_known_place_count_alike(decoder: AudioDecoder, upload: Path) -> None:
    frames = np.zeros((16_000, 4), "<i2")
    frames[:, 3] = 16_384
    upload.write_bytes(wav_bytes(frames.tobytes(), channels=4))

    samples = decoded(decoder, upload)

    assert samples == pytest.approx(np.full(16_000, 0.125), abs=1e-3)


def test_speech_in_the_centre_of_a_surround_track_stays_audible(
    decoder: AudioDecoder, upload: Path
) -> None:
    write_recording(upload, TWO_SECONDS, "ac3", layout="5.1")

    samples = decoded(decoder, upload)

    # FFmpeg puts mono into the centre alone; a plain mean of six channels would leave a sixth.
    assert np.abs(samples[4000:]).max() > 0.5 / 5


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0x7FFFFFF0])
def test_a_wav_header_that_does_not_know_its_length_is_read_to_the_end(
    decoder: AudioDecoder, upload: Path, claimed: int
) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE, data_size=claimed))

    assert len(decoded(decoder, upload)) == SAMPLE_RATE


@pytest.mark.parametrize("samples", [1, 50, 1000])
def test_a_very_short_recording_is_fine(decoder: AudioDecoder, upload: Path, samples: int) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE[: 2 * samples]))

    assert len(decoded(decoder, upload)) == samples


def test_a_recording_of_no_samples_gives_no_blocks(decoder: AudioDecoder, upload: Path) -> None:
    upload.write_bytes(wav_bytes(b""))

    with decoder.open(upload) as recording:
        assert list(recording) == []


def test_numbers_that_are_none_become_silence(decoder: AudioDecoder, upload: Path) -> None:
    wild = np.tile(np.array([np.nan, np.inf, -np.inf, 0.5], "<f4"), 4000)
    upload.write_bytes(wav_bytes(wild.tobytes(), code=3, sample_bytes=4))

    samples = decoded(decoder, upload)

    assert np.isfinite(samples).all()
    assert samples[3] == 0.5


def test_numbers_no_recording_holds_are_brought_into_reach_of_the_model(
    decoder: AudioDecoder, upload: Path
) -> None:
    wild = np.tile(np.array([1e30, -1e30, 1.5, -0.25], "<f4"), 4000)
    upload.write_bytes(wav_bytes(wild.tobytes(), code=3, sample_bytes=4))

    samples = decoded(decoder, upload)

    assert samples[:4].tolist() == [4.0, -4.0, 1.5, -0.25]
    assert np.abs(samples).max() == 4.0


@pytest.mark.parametrize("ending", [name for name in FORMATS if name not in {"m4a", "caf"}])
def test_a_file_that_breaks_off_gives_what_it_has(
    decoder: AudioDecoder, upload: Path, ending: str
) -> None:
    whole = write_recording(upload, tone(8.0), ending).read_bytes()
    upload.write_bytes(whole[: len(whole) // 2])

    samples = decoded(decoder, upload)

    assert 2.5 * SAMPLE_RATE < len(samples) < 5.5 * SAMPLE_RATE
    assert loudest_hertz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kept", [3, 40, 200])
def test_a_stub_of_a_file_gives_a_moment_or_is_refused(
    decoder: AudioDecoder, upload: Path, ending: str, kept: int
) -> None:
    upload.write_bytes(write_recording(upload, TWO_SECONDS, ending).read_bytes()[:kept])

    outcome = _length_or_code(decoder, upload)

    assert outcome == "audio_undecodable" or outcome in range(SAMPLE_RATE // 5)


def test_damage_in_the_middle_costs_only_that_place(decoder: AudioDecoder, upload: Path) -> None:
    content = bytearray(write_recording(upload, tone(8.0), "flac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    upload.write_bytes(content)

    assert 7 * SAMPLE_RATE < len(decoded(decoder, upload)) < 8 * SAMPLE_RATE


def _noise(length: int) -> bytes:
    return np.random.default_rng(7).bytes(length)


NOT_AUDIO = {
    "nothing": b"",
    "one byte": b"\0",
    "random bytes": _noise(1000),
    "many random bytes": _noise(1_000_000),
    "zeros": bytes(100_000),
    "text": b"Dear all, please find attached the recording of our meeting.\n" * 50,
    "a page": b"<!doctype html><html><body>404 Not Found</body></html>",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "a program": Path(sys.executable).read_bytes()[:200_000],
    "an SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    b"m=audio 5004 RTP/AVP 0\n",
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.wav\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("kind", NOT_AUDIO)
def test_what_is_no_audio_is_refused(decoder: AudioDecoder, upload: Path, kind: str) -> None:
    upload.write_bytes(NOT_AUDIO[kind])

    assert refusal_of(decoder, upload).code == "audio_undecodable"


def test_an_archive_with_a_recording_in_it_is_refused(decoder: AudioDecoder, upload: Path) -> None:
    with zipfile.ZipFile(upload, "w") as archive:
        archive.writestr("speech.wav", wav_bytes(PCM_TONE))

    assert refusal_of(decoder, upload).code == "audio_undecodable"


@pytest.mark.parametrize(
    "template",
    [
        "ffconcat version 1.0\nfile {name}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{name}\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_file_that_names_another_upload_is_refused(
    decoder: AudioDecoder, upload: Path, tmp_path: Path, template: str
) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(wav_bytes(PCM_TONE))
    upload.write_text(template.format(name=other))

    assert refusal_of(decoder, upload).code == "audio_undecodable"


def test_a_film_without_sound_is_told_so(decoder: AudioDecoder, upload: Path) -> None:
    import av

    with av.open(str(upload), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=64)
        frame = av.VideoFrame(64, 64, "yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    assert "no audio track" in str(refusal_of(decoder, upload))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (flac_bytes(rate=1, total_samples=196_605), "audio_limits"),
        (flac_bytes(rate=655_350, total_samples=65_535), "audio_limits"),
        (flac_bytes(rate=44_100, total_samples=2**36 - 1), "audio_too_long"),
        (wav_bytes(PCM_TONE, rate=3_999), "audio_limits"),
        (wav_bytes(PCM_TONE, rate=384_001), "audio_limits"),
        (wav_bytes(PCM_TONE, channels=33), "audio_limits"),
    ],
)
def test_a_header_out_of_range_is_refused_at_the_door(
    decoder: AudioDecoder, upload: Path, content: bytes, code: str
) -> None:
    upload.write_bytes(content)

    with pytest.raises(UndecodableAudio) as caught:
        decoder.open(upload)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content",
    [
        flac_bytes(rate=4_000, total_samples=65_535),
        wav_bytes(PCM_TONE, rate=4_000),
        wav_bytes(PCM_TONE, rate=384_000),
        wav_bytes(PCM_TONE, channels=32),
    ],
)
def test_a_header_at_the_edge_of_the_range_is_accepted(
    decoder: AudioDecoder, upload: Path, content: bytes
) -> None:
    upload.write_bytes(content)

    assert len(decoded(decoder, upload)) > 0


def test_a_recording_is_allowed_its_last_second_and_no_more(
    decoder: AudioDecoder, upload: Path
) -> None:
    upload.write_bytes(wav_bytes(bytes(2 * 16_000 * 30)))

    assert len(decoded(decoder, upload, DecodeLimits(max_seconds=30))) == 30 * SAMPLE_RATE
    assert refusal_of(decoder, upload, DecodeLimits(max_seconds=29)).code == "audio_too_long"


def test_a_recording_that_hides_its_length_is_cut_while_decoding(
    decoder: AudioDecoder, upload: Path
) -> None:
    write_recording(upload, np.zeros(120 * RATE, np.float32), "aac")
    limits = DecodeLimits(max_seconds=60)

    with decoder.open(upload, limits) as recording:
        blocks = [next(recording) for _ in range(6)]
        with pytest.raises(UndecodableAudio, match="longer than 60 s"):
            next(recording)

    assert sum(len(block) for block in blocks) == 60 * SAMPLE_RATE


def test_a_file_that_costs_too_much_time_is_refused(decoder: AudioDecoder, upload: Path) -> None:
    _write_long_silence(upload)
    limits = DecodeLimits(cpu_seconds=0.5, cpu_seconds_per_second=0)

    refusal = refusal_of(decoder, upload, limits)

    assert refusal.code == "audio_limits"
    assert "more time or memory" in str(refusal)


def test_a_file_that_costs_too_much_memory_is_refused(decoder: AudioDecoder, upload: Path) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE * 10, rate=384_000, channels=32))

    refusal = refusal_of(decoder, upload, DecodeLimits(memory_bytes=64 * 1024**2))

    assert refusal.code == "audio_limits"


def test_a_decoder_that_stalls_is_ended(decoder: AudioDecoder, upload: Path) -> None:
    _write_long_silence(upload)
    with decoder.open(upload, DecodeLimits(stall_timeout=0.2)) as recording:
        _send_to_working_child(signal.SIGSTOP)

        with pytest.raises(UndecodableAudio, match="more time or memory"):
            list(recording)


def test_a_refusal_says_what_to_do_and_nothing_of_the_inside(
    decoder: AudioDecoder, upload: Path
) -> None:
    for content in NOT_AUDIO.values():
        upload.write_bytes(content)
        text = str(refusal_of(decoder, upload))
        assert re.search(r"\bSend\b|\bConvert\b", text)
        assert not re.search(r"/|Errno|Invalid data|fd:|0x|" + upload.name, text)


def test_every_refusal_has_a_code_of_the_protocol() -> None:
    from worker.audio.errors import _REFUSALS

    assert {code for code, _ in _REFUSALS.values()} <= set(FailureCode)


def test_closing_from_another_thread_ends_the_reader(decoder: AudioDecoder, upload: Path) -> None:
    _write_long_silence(upload)
    recording = decoder.open(upload)
    next(recording)
    closer = threading.Thread(target=recording.close)
    closer.start()

    with pytest.raises(DecodingClosed):
        list(recording)
    closer.join()
    assert _working_children() == []


def test_closing_early_leaves_no_process(decoder: AudioDecoder, upload: Path) -> None:
    _write_long_silence(upload)

    with decoder.open(upload) as recording:
        next(recording)
        assert len(_working_children()) == 1

    assert _working_children() == []


def test_closing_twice_and_after_the_end_is_harmless(decoder: AudioDecoder, upload: Path) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE))
    recording = decoder.open(upload)
    list(recording)

    recording.close()
    recording.close()

    assert list(recording) == []


def test_a_child_killed_from_outside_is_not_blamed_on_the_file(
    decoder: AudioDecoder, upload: Path
) -> None:
    _write_long_silence(upload)
    with decoder.open(upload) as recording:
        _send_to_working_child(signal.SIGKILL)

        with pytest.raises(DecoderFailed):
            list(recording)


def test_a_child_that_crashes_is_blamed_on_the_file(decoder: AudioDecoder, upload: Path) -> None:
    _write_long_silence(upload)
    with decoder.open(upload) as recording:
        _send_to_working_child(signal.SIGSEGV)

        with pytest.raises(UndecodableAudio, match="damaged"):
            list(recording)


# A child whose own code is at fault once it has proved itself on the moment of silence.
FAULTY_CHILD = """
from worker.audio import decode_child

def fail(_file):
    raise TypeError("a fault of our own")

prepare = decode_child._prepare_decoder

def prepare_and_break():
    prepare()
    decode_child._open_container = fail

decode_child._prepare_decoder = prepare_and_break
decode_child.main()
"""


def test_a_fault_of_the_decoder_is_not_blamed_on_the_file(
    upload: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE))
    command = [sys.executable, "-c", FAULTY_CHILD, str(os.getpid())]
    monkeypatch.setattr("worker.audio.decoding.process_command", lambda: command)

    with AudioDecoder() as decoder, pytest.raises(DecoderFailed) as caught:
        decoded(decoder, upload)

    assert "could not be decoded this time" in str(caught.value)
    assert "fault of our own" not in str(caught.value)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "TypeError('a fault of our own')" in record.getMessage()


def test_the_log_of_a_refusal_tells_the_cause(
    decoder: AudioDecoder, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload.write_bytes(b"no recording")

    with caplog.at_level("INFO", logger="worker.audio"):
        refusal_of(decoder, upload)

    (record,) = [record for record in caplog.records if "refused" in record.message]
    assert "reason='not_audio'" in record.getMessage()
    assert "InvalidDataError" in record.getMessage()


def test_a_spare_that_died_is_replaced(decoder: AudioDecoder, upload: Path) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE))
    decoded(decoder, upload)  # afterwards the next spare is on its way
    decoder._spares[0].result()
    for child in psutil.Process().children():
        child.kill()
        child.wait()

    assert len(decoded(decoder, upload)) == SAMPLE_RATE


def test_good_and_bad_files_leave_no_descriptor_behind(decoder: AudioDecoder, upload: Path) -> None:
    contents = [wav_bytes(PCM_TONE), b"junk", wav_bytes(PCM_TONE, rate=1)]

    def decode_all() -> None:
        for content in contents * 3:
            upload.write_bytes(content)
            try:
                decoded(decoder, upload)
            except UndecodableAudio:
                continue
        decoder._spares[0].result()

    decode_all()
    before = len(os.listdir("/proc/self/fd"))
    decode_all()

    assert len(os.listdir("/proc/self/fd")) == before
    assert len(psutil.Process().children()) == 1  # the spare


def test_several_threads_decode_at_once(decoder: AudioDecoder, tmp_path: Path) -> None:
    lengths: dict[int, int] = {}

    def decode_one(seconds: int) -> None:
        path = tmp_path / str(seconds)
        path.write_bytes(wav_bytes(bytes(32_000 * seconds)))
        lengths[seconds] = len(decoded(decoder, path))

    threads = [threading.Thread(target=decode_one, args=(seconds,)) for seconds in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert lengths == {seconds: seconds * SAMPLE_RATE for seconds in range(1, 7)}


def test_a_missing_file_is_an_os_error(decoder: AudioDecoder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decoder.open(tmp_path / "gone")


def test_a_closed_decoder_has_no_children_and_opens_nothing(upload: Path) -> None:
    upload.write_bytes(wav_bytes(PCM_TONE))
    decoder = AudioDecoder(spare_children=2)
    decoder.close()

    assert psutil.Process().children() == []
    with pytest.raises(DecoderFailed):
        decoder.open(upload)


def test_children_end_with_their_parent() -> None:
    script = (
        "import psutil, sys, time\n"
        "from worker.audio.decoding import AudioDecoder\n"
        "decoder = AudioDecoder()\n"
        "decoder._spares[0].result()\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()

    assert _has_ended(child)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME_HEADER.pack(b"S", 2**31),
        FRAME_HEADER.pack(b"S", 3) + b"abc",
        FRAME_HEADER.pack(b"D", MAX_TEXT_BYTES + 1),
        FRAME_HEADER.pack(b"D", 2) + b"{}",
        FRAME_HEADER.pack(b"D", 2) + b"[]",
        FRAME_HEADER.pack(b"D", 2) + b"\xff\xff",
        FRAME_HEADER.pack(b"E", 2) + b"{}",
        FRAME_HEADER.pack(b"F", 2) + b"{}",
        FRAME_HEADER.pack(b"?", 2) + b"{}",
        b"D",
    ],
)
def test_a_child_that_a_file_has_taken_over_is_ended(frame: bytes) -> None:
    script = f"import socket, time; s = socket.socket(fileno=0); s.sendall({frame!r}); s.recv(1)"
    process = start_process([sys.executable, "-c", script])
    process._connection.settimeout(0.5)

    with pytest.raises(UndecodableAudio):
        DecodedAudio(process, DecodeLimits())
    process.end()
    assert psutil.Process().children() == []


def _length_or_code(decoder: AudioDecoder, path: Path) -> int | str:
    try:
        return len(decoded(decoder, path))
    except UndecodableAudio as refusal:
        return refusal.code


def _write_long_silence(path: Path) -> None:
    """70 minutes of 48 kHz stereo in a sparse file: seconds of work, no disk."""
    head = wav_bytes(b"", rate=48_000, channels=2, data_size=0xFFFFFFFF)
    path.write_bytes(head)
    os.truncate(path, len(head) + 70 * 60 * 48_000 * 4)


def _working_children() -> list[psutil.Process]:
    """Children that have the recording, told from spares by the descriptor they were given."""
    return [child for child in psutil.Process().children() if _has_recording(child)]


def _has_recording(child: psutil.Process) -> bool:
    """False for one that has ended, or ends while its descriptors are read."""
    try:
        links = list(Path(f"/proc/{child.pid}/fd").iterdir())
    except FileNotFoundError:
        return False
    return any(_target(link).endswith("/0f3a") for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # closed since it was listed
        return ""


def _send_to_working_child(number: signal.Signals) -> None:
    (child,) = _working_children()
    child.send_signal(number)


def _has_ended(process: psutil.Process) -> bool:
    """Ended, or a zombie where nobody reaps orphans."""
    try:
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True

"""What a session keeps for the next engine, in memory and on disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.live.held_audio import FILE_SEGMENT_BYTES, MEMORY_BYTES, HeldAudio
from gateway.live.replay_log import ClearHere, CommitHere, ConfigureHere, ReplayLog, Stretch
from protocol.limits import LIVE_PACKET_BYTES
from protocol.live import Encoding, StreamFormat
from tests.gateway.live.letter_engine import options

PCM = StreamFormat(Encoding.PCM16, 16000, 2)
"""Four bytes a frame."""


def numbered(size: int) -> bytes:
    """Bytes that tell where they are."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


CONTENT = numbered(30 * 40_000)


class Paths:
    """Names for files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __call__(self) -> Path:
        self.count += 1
        return self.folder / f"{self.count:032x}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def log(paths: Paths) -> ReplayLog:
    return ReplayLog(PCM, options(), paths)


def taken(log: ReplayLog, until: int = 1 << 40) -> list[object]:
    """Everything the cursor has before it."""
    passed: list[object] = []
    while (following := log.next(until)) is not None:
        passed.append(following)
        log.advance(following)
    return passed


def test_audio_and_commands_come_in_their_order(log: ReplayLog) -> None:
    log.add_audio(b"aaaabbbb")
    log.add(CommitHere(0))
    log.add_audio(b"cccc")
    log.add(ClearHere())

    assert taken(log) == [Stretch(0, b"aaaabbbb"), CommitHere(0), Stretch(2, b"cccc"), ClearHere()]


def test_only_whole_frames_come(log: ReplayLog) -> None:
    log.add_audio(b"aaaabb")
    assert taken(log) == [Stretch(0, b"aaaa")]
    log.add_audio(b"bbc")

    assert taken(log) == [Stretch(1, b"bbbb")]


def test_packets_are_bounded(log: ReplayLog) -> None:
    content = numbered(3 * LIVE_PACKET_BYTES)
    log.add_audio(content)
    packets = taken(log)

    assert len(packets) == 3
    assert b"".join(each.content for each in packets if isinstance(each, Stretch)) == content


def test_nothing_comes_beyond_the_frame_that_is_asked_for(log: ReplayLog) -> None:
    log.add_audio(b"aaaabbbb")

    assert taken(log, until=1) == [Stretch(0, b"aaaa")]


def test_another_engine_gets_what_was_not_acknowledged(log: ReplayLog) -> None:
    log.add_audio(b"aaaabbbbcccc")
    taken(log)
    log.acknowledge(2)
    log.rewind()

    assert log.start == 2
    assert taken(log) == [Stretch(2, b"cccc")]


def test_a_commit_is_kept_until_it_is_answered(log: ReplayLog) -> None:
    log.add_audio(b"aaaa")
    log.add(CommitHere(0))
    log.add_audio(b"bbbbcccc")
    taken(log)
    log.acknowledge(3)
    assert log.kept_commits == [0]
    log.commits_answered(1)

    assert log.kept_commits == []


def test_a_commit_that_was_answered_is_kept_while_its_audio_is(log: ReplayLog) -> None:
    log.add_audio(b"aaaa")
    log.add(CommitHere(0))
    log.add_audio(b"bbbb")
    taken(log)
    log.commits_answered(1)

    assert log.kept_commits == [0]


def test_options_that_hold_at_the_beginning_are_remembered(log: ReplayLog) -> None:
    changed = options(is_manual=True)
    log.add_audio(b"aaaa")
    log.add(ConfigureHere(changed))
    log.add_audio(b"bbbbcccc")
    taken(log)
    assert log.options == options()
    log.acknowledge(2)

    assert log.options == changed


def test_what_was_not_sent_cannot_be_acknowledged(log: ReplayLog) -> None:
    log.add_audio(b"aaaabbbb")
    log.acknowledge(2)

    assert taken(log) == [Stretch(0, b"aaaabbbb")]


def test_a_long_call_takes_no_more_memory_than_a_short_one(paths: Paths) -> None:
    audio = HeldAudio(paths)
    for second in range(7200):
        audio.append(bytes(32_000))
        audio.drop_before(max(second - 20, 0) * 32_000)

    assert audio.end - audio.start <= 21 * 32_000
    assert paths.count == 0


def test_what_is_beyond_memory_lies_on_disk_without_a_name(paths: Paths) -> None:
    audio = HeldAudio(paths)
    content = numbered(MEMORY_BYTES + 2 * FILE_SEGMENT_BYTES)
    audio.append(content)

    assert paths.count == 2
    assert list(paths.folder.iterdir()) == []
    assert audio.read(0, len(content)) == content
    assert audio.read(4000, 100) == content[4000:4100]
    audio.close()


def test_memory_is_used_again_once_the_disk_is_read(paths: Paths) -> None:
    audio = HeldAudio(paths)
    audio.append(bytes(MEMORY_BYTES + FILE_SEGMENT_BYTES))
    audio.drop_before(audio.end)
    audio.append(numbered(1000))

    assert paths.count == 1
    assert audio.read(audio.start, 1000) == numbered(1000)


def test_a_full_disk_is_told(paths: Paths) -> None:
    paths.folder = paths.folder / "absent"
    audio = HeldAudio(paths)

    with pytest.raises(OSError, match="No such file"):
        audio.append(bytes(MEMORY_BYTES + 1))


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "take", "free"]), st.integers(0, 40_000)), max_size=30
    )
)
def test_every_byte_is_read_as_it_was_written(history: list[tuple[str, int]]) -> None:
    content = CONTENT
    audio = HeldAudio(lambda: Path("/nowhere/at/all"))
    held = 0
    for kind, size in history:
        if kind == "add" and audio.end - audio.start + size < MEMORY_BYTES // 2:
            audio.append(content[held : held + size])
            held += size
        elif kind == "free":
            audio.drop_before(min(audio.start + size, audio.end))
        else:
            assert audio.read(audio.start, size) == content[audio.start : held][:size]
    audio.close()

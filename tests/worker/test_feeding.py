"""One recording's thread, with a real decoder; others have the places for decoders."""

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import soundfile

from protocol.transcription import Stage, Transcribe
from worker.audio.chunking import Chunker
from worker.audio.decoding import AudioDecoder, DecodeLimits
from worker.chunks_ahead import ChunksAhead
from worker.decoder_places import DecoderPlaces
from worker.feeding import ChunkCut, CutAll, Feeder, FeedEvent, FeedingTools, Moved
from worker.recordings import Recording

DEADLINE = 20.0
BEGINNING = 4
FILM_SECONDS = 60.0


class Mail:
    """Stands in for the mailbox."""

    sees_spool = True


class Cinema:
    """A film to be cut beside another, which has the only lasting place for a decoder."""

    def __init__(self, folder: Path, decoder: AudioDecoder) -> None:
        self.places = DecoderPlaces(lasting=1, brief=1, told_every=0.01)
        self.events: SimpleQueue[FeedEvent] = SimpleQueue()
        self._folder = folder
        self._tools = FeedingTools(
            decoder=decoder,
            decoder_places=self.places,
            decoding_slots=threading.Semaphore(2),
            chunks_ahead=ChunksAhead(1000, least=BEGINNING),
            limits=DecodeLimits(),
            new_chunker=lambda: Chunker(target_seconds=2.0, max_seconds=4.0),
            mailbox=Mail(),  # type: ignore[arg-type]
            spool_folder=folder,
            fetch_folder=folder / "fetched",
            deliver=self.events.put,
        )
        assert self.places.enter(
            "another film",
            may_be_brief=lambda: False,
            is_stopped=lambda: False,
            still_waits=lambda: None,
        )

    def feeder(self, seconds: float) -> Feeder:
        """A recording so long, being cut."""
        times = np.arange(int(seconds * 16000)) / 16000
        path = self._folder / "ab" / "c1"
        path.parent.mkdir()
        soundfile.write(path, 0.3 * np.sin(2765 * times), 16000, format="WAV", subtype="PCM_16")
        size = path.stat().st_size
        request = Transcribe("r", 1, "ab/c1", size, None, "", (), 0.0, False, 0, 0)
        feeder = Feeder(Recording(request), self._tools)
        feeder.start()
        return feeder

    def until(self, kind: type[FeedEvent]) -> list[FeedEvent]:
        """Events up to the next one of a kind."""
        events = []
        while True:
            event = self.events.get(timeout=DEADLINE)
            events.append(event)
            if isinstance(event, kind):
                return events


@pytest.fixture
def cinema(tmp_path: Path) -> Iterator[Cinema]:
    with AudioDecoder() as decoder:
        yield Cinema(tmp_path, decoder)


def chunks(events: list[FeedEvent]) -> list[int]:
    return [event.chunk.index for event in events if isinstance(event, ChunkCut)]


def test_what_is_short_is_cut_whole_in_a_brief_place(cinema: Cinema) -> None:
    cinema.feeder(5.0)

    events = cinema.until(CutAll)

    assert chunks(events) == list(range(len(chunks(events))))
    assert 1 < len(chunks(events)) <= BEGINNING


def test_a_film_tells_that_it_lives_while_it_waits_for_its_place_and_then_goes_on(
    cinema: Cinema,
) -> None:
    cinema.feeder(FILM_SECONDS)
    beginning = [event for _ in range(BEGINNING) for event in cinema.until(ChunkCut)]

    for _ in range(3):
        (told,) = cinema.until(Moved)
        assert isinstance(told, Moved)
        assert (told.stage, told.total_seconds) == (Stage.DECODING, FILM_SECONDS)
    cinema.places.leave("another film")
    rest = cinema.until(CutAll)

    assert chunks(beginning) == list(range(BEGINNING))
    assert chunks(rest) == list(range(BEGINNING, BEGINNING + len(chunks(rest))))
    ends = [event.chunk for event in [*beginning, *rest] if isinstance(event, ChunkCut)]
    assert [chunk.start for chunk in ends[1:]] == [chunk.end for chunk in ends[:-1]]
    assert ends[-1].end == FILM_SECONDS * 16000


def test_a_film_that_is_cancelled_while_it_waits_for_its_place_is_gone(cinema: Cinema) -> None:
    feeder = cinema.feeder(FILM_SECONDS)
    for _ in range(BEGINNING):
        cinema.until(ChunkCut)
    cinema.until(Moved)

    feeder.stop()
    feeder.join(DEADLINE)

    assert not any(each.name == "feeder r" for each in threading.enumerate())
    assert repr(cinema.places) == "<DecoderPlaces 1 lasting, 0 brief, 0 return>"

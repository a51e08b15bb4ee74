"""The link on real sockets, with supervisors and engines played by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgpack
import pytest

from gateway.settings import Settings
from gateway.worker_client.attempts import MOST_STARTS
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from gateway.worker_client.link import WorkerLink
from protocol.control import (
    EngineFinishedWork,
    EngineState,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
)
from protocol.failures import FailureCode
from protocol.limits import UPLOAD_PIECE_BYTES
from protocol.sockets import link_addresses
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Hello,
    Partial,
    Progress,
    PullUpload,
    Stage,
    Transcribe,
    UploadPiece,
)
from tests.gateway.worker_client.fake_peers import FakeEngine, FakeSupervisor

GATEWAY_ID = "ab12"


class Road:
    """A link, its callers and the peers a test plays."""

    def __init__(self, link: WorkerLink, settings: Settings, stack: AsyncExitStack) -> None:
        self.link = link
        self._settings = settings
        self._addresses = link_addresses("ipc", settings.data_dir)
        self._stack = stack
        self._callers = asyncio.TaskGroup()
        self._requests = 0

    async def open(self) -> None:
        await self._stack.enter_async_context(self._callers)

    async def supervisor(self, worker_id: str = "one") -> FakeSupervisor:
        supervisor = await self._stack.enter_async_context(FakeSupervisor(self._addresses.control))
        await supervisor.join(worker_id)
        return supervisor

    async def engine(self, worker_id: str = "one", epoch: int = 1, capacity: int = 2) -> FakeEngine:
        engine = await self._stack.enter_async_context(FakeEngine(self._addresses.work))
        await engine.join(worker_id, epoch, capacity)
        return engine

    async def unknown_engine(self) -> FakeEngine:
        return await self._stack.enter_async_context(FakeEngine(self._addresses.work))

    async def stranger(self) -> FakeSupervisor:
        return await self._stack.enter_async_context(FakeSupervisor(self._addresses.control))

    def request(self, upload: bytes = b"audio") -> TranscriptionRequest:
        self._requests += 1
        folder = self._settings.data_dir / "spool" / GATEWAY_ID
        path = folder / f"{self._requests:032x}"
        path.write_bytes(upload)
        return TranscriptionRequest(
            request_id=f"req-{self._requests}",
            owner=None,
            spool_file=f"{GATEWAY_ID}/{path.name}",
            upload_path=path,
            upload_bytes=len(upload),
            chunks_path=path.with_suffix(".chunks"),
        )

    def call(self, request: TranscriptionRequest | None = None) -> "asyncio.Task[str]":
        """A caller that wants the whole text."""
        return self._callers.create_task(self._text(request or self.request()))

    async def _text(self, request: TranscriptionRequest) -> str:
        texts = []
        try:
            async with aclosing(self.link.transcribe(request)) as events:
                async for event in events:
                    if isinstance(event, ChunkDone):
                        texts.append(event.text)
        except TranscriptionFailed as failure:
            return f"{failure.code}: {failure.message}"
        return " ".join(texts)


@pytest.fixture
def settings(short_folder: Path) -> Settings:
    return Settings(data_dir=short_folder, model_id="model")


@asynccontextmanager
async def open_road(settings: Settings) -> AsyncIterator[Road]:
    async with AsyncExitStack() as stack:
        link = WorkerLink(settings, settings.data_dir / "spool", GATEWAY_ID)
        await stack.enter_async_context(link)
        road = Road(link, settings, stack)
        await road.open()
        yield road


@pytest.fixture
async def road(settings: Settings) -> AsyncIterator[Road]:
    async with open_road(settings) as road:
        yield road


async def test_a_request_wakes_the_engine_and_gets_its_text(road: Road) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.STOPPED, epoch=0)
    caller = road.call()
    await supervisor.receive(StartEngine)
    await supervisor.report(EngineState.READY)
    engine = await road.engine()
    opened = await engine.receive(Transcribe)
    await engine.finish_chunk(opened, 0, "one")
    await engine.finish_chunk(opened, 1, "two")
    await engine.finish(opened, chunks=2)

    assert await caller == "one two"
    assert (await supervisor.receive(EngineFinishedWork)).epoch == 1


async def test_an_engine_is_started_for_a_caller_who_only_says_that_it_will_call(
    road: Road,
) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.STOPPED, epoch=0)
    road.link.warm(60.0)

    await supervisor.receive(StartEngine)


async def test_chunks_reach_the_caller_as_they_are_done(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    async with aclosing(road.link.transcribe(road.request())) as events:
        first = asyncio.ensure_future(anext(events))
        opened = await engine.receive(Transcribe)
        await engine.send(Progress(opened.request_id, 1, Stage.DECODING, 3.0, None))
        assert isinstance(await first, Progress)
        await engine.finish_chunk(opened, 0, "one")
        chunk = await anext(events)
        assert isinstance(chunk, ChunkDone)
        await engine.finish(opened)
        assert isinstance(await anext(events), Final)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_the_engine_can_tell_a_shared_spool_by_the_probe(
    road: Road, settings: Settings
) -> None:
    await road.supervisor()
    engine = await road.engine()
    introduction = engine.introduction

    probe = settings.data_dir / "spool" / introduction.probe_file
    assert probe.read_text() == introduction.probe_text


async def test_a_caller_that_leaves_cancels_its_request(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine(capacity=1)
    leaving = road.call()
    opened = await engine.receive(Transcribe)
    staying = road.call()
    leaving.cancel()
    assert (await engine.receive(Cancel)).request_id == opened.request_id
    await engine.send(
        Failed(opened.request_id, opened.attempt, FailureCode.CANCELLED, "The caller has left.")
    )
    second = await engine.receive(Transcribe)
    assert second.request_id != opened.request_id
    await engine.finish_chunk(second, 0, "text")
    await engine.finish(second)

    assert await staying == "text"


async def test_a_waiting_caller_that_leaves_is_never_opened(road: Road) -> None:
    supervisor = await road.supervisor()
    leaving = road.call()
    await supervisor.receive(StartEngine)
    leaving.cancel()
    await asyncio.wait([leaving])

    assert road.link.snapshot().waiting_requests == 0


async def test_after_a_death_the_next_engine_goes_on_behind_the_done_chunks(road: Road) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.READY)
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    assert (opened.done_chunks, opened.done_samples) == (0, 0)
    await engine.finish_chunk(opened, 0, "one")
    await supervisor.receive(EngineFinishedWork)
    await supervisor.report(EngineState.BACKING_OFF, failure="signal 9")
    await supervisor.receive(StartEngine)
    await supervisor.report(EngineState.READY, epoch=2)
    following = await road.engine(epoch=2)
    again = await following.receive(Transcribe)
    assert again.attempt == 2
    assert (again.done_chunks, again.done_samples) == (1, 100)
    await following.finish_chunk(again, 1, "two")
    await following.finish(again, chunks=2)

    assert await caller == "one two"


async def test_answers_of_an_earlier_attempt_are_dropped(road: Road) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.READY)
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    await supervisor.report(EngineState.STARTING, epoch=2)
    following = await road.engine(epoch=2)
    again = await following.receive(Transcribe)
    await following.finish_chunk(opened, 0, "late")
    await following.finish_chunk(again, 0, "right")
    await following.finish(again)

    assert await caller == "right"


async def test_partial_texts_reach_the_caller_and_late_ones_of_a_lost_engine_do_not(
    road: Road,
) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.READY)
    engine = await road.engine()
    async with aclosing(road.link.transcribe(road.request())) as events:
        first = asyncio.ensure_future(anext(events))
        opened = await engine.receive(Transcribe)
        await supervisor.report(EngineState.STARTING, epoch=2)
        following = await road.engine(epoch=2)
        again = await following.receive(Transcribe)
        for attempt, text in ((opened.attempt, "late"), (again.attempt, "one")):
            await following.send(Partial(opened.request_id, attempt, 0, "English", text))
        partial = await first
        await following.finish_chunk(again, 0, "one two")
        chunk = await anext(events)

    assert isinstance(partial, Partial)
    assert isinstance(chunk, ChunkDone)
    assert (partial.text, chunk.text) == ("one", "one two")


async def test_requests_given_back_by_an_ending_engine_count_against_nobody(road: Road) -> None:
    supervisor = await road.supervisor()
    caller = road.call()
    for epoch in range(1, 7):
        await supervisor.report(EngineState.READY, epoch=epoch)
        engine = await road.engine(epoch=epoch)
        opened = await engine.receive(Transcribe)
        assert (opened.attempt, opened.runs_alone) == (epoch, False)
        await engine.send(Failed(opened.request_id, epoch, FailureCode.SHUTTING_DOWN, "ending"))
        await supervisor.report(EngineState.STOPPED, epoch=epoch)
    await supervisor.report(EngineState.READY, epoch=7)
    engine = await road.engine(epoch=7)
    opened = await engine.receive(Transcribe)
    await engine.finish_chunk(opened, 0, "text")
    await engine.finish(opened)

    assert await caller == "text"


async def test_a_failure_of_the_recording_reaches_the_caller_in_its_words(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    message = "No audio could be read."
    await engine.send(Failed(opened.request_id, 1, FailureCode.AUDIO_UNDECODABLE, message))

    assert await caller == f"audio_undecodable: {message}"


async def test_an_engine_that_cannot_be_started_is_named_to_the_caller(road: Road) -> None:
    supervisor = await road.supervisor()
    caller = road.call()
    await supervisor.receive(StartEngine)
    await supervisor.report(EngineState.FAILED, failure="model not found", retry_after=60.0)

    assert await caller == (
        "worker_unavailable: Speech recognition is not available: "
        "the engine cannot be started: model not found."
    )
    snapshot = road.link.snapshot()
    assert not snapshot.can_serve
    assert snapshot.reason == "the engine cannot be started: model not found"


async def test_an_idle_engine_is_dismissed(short_folder: Path) -> None:
    settings = Settings(data_dir=short_folder, model_id="model", idle_timeout=0.01)
    async with open_road(settings) as road:
        supervisor = await road.supervisor()
        await supervisor.report(EngineState.READY)
        await road.engine()

        assert (await supervisor.receive(StopEngine)).epoch == 1


async def test_more_requests_than_the_queue_holds_are_refused(short_folder: Path) -> None:
    settings = Settings(data_dir=short_folder, model_id="model", max_waiting_requests=1)
    async with open_road(settings) as road:
        supervisor = await road.supervisor()
        first = road.call()
        await supervisor.receive(StartEngine)
        second = road.call()

        assert (await second).startswith("queue_full")
        first.cancel()


async def test_the_same_worker_id_twice_is_refused(road: Road) -> None:
    await road.supervisor("one")
    twin = await road.stranger()
    await twin.receive(Introduce)
    await twin.send(SupervisorHello("one", "twin", "model"))

    assert (await twin.receive(Refused)).code == "worker_id_taken"


async def test_two_workers_share_the_work(road: Road) -> None:
    for worker_id in ("one", "two"):
        await road.supervisor(worker_id)
    engines = [await road.engine(worker_id, capacity=1) for worker_id in ("one", "two")]
    callers = [road.call(), road.call()]
    for engine in engines:
        opened = await engine.receive(Transcribe)
        await engine.finish_chunk(opened, 0, opened.request_id)
        await engine.finish(opened)

    assert [await caller for caller in callers] == ["req-1", "req-2"]


async def test_an_engine_whose_successor_starts_is_a_stranger(road: Road) -> None:
    supervisor = await road.supervisor()
    earlier = await road.engine()
    await supervisor.report(EngineState.STARTING, epoch=2)

    await earlier.receive(Introduce)


async def test_a_silent_engine_loses_its_requests_to_another(road: Road) -> None:
    for worker_id in ("one", "two"):
        await road.supervisor(worker_id)
    silent = await road.engine("one")
    caller = road.call()
    await silent.receive(Transcribe)
    other = await road.engine("two")
    silent.fall_silent()
    opened = await other.receive(Transcribe)
    assert opened.attempt == 2
    await other.finish_chunk(opened, 0, "text")
    await other.finish(opened)

    assert await caller == "text"
    await silent.send(Failed(opened.request_id, 1, FailureCode.CANCELLED, ""))
    await silent.receive(Introduce)


async def test_an_upload_is_pulled_in_pieces_under_credit(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    upload = bytes(range(256)) * (UPLOAD_PIECE_BYTES // 256) * 2 + b"tail"
    caller = road.call(road.request(upload))
    opened = await engine.receive(Transcribe)
    await engine.send(PullUpload(opened.request_id, 0, 2))
    pieces = [await engine.receive(UploadPiece) for _ in range(2)]
    assert [piece.is_last for piece in pieces] == [False, False]
    await engine.send(PullUpload(opened.request_id, 2 * UPLOAD_PIECE_BYTES, 2))
    last = await engine.receive(UploadPiece)
    await engine.finish(opened, chunks=0)

    assert last.is_last
    assert b"".join(piece.content for piece in (*pieces, last)) == upload
    assert await caller == ""


async def test_nobody_pulls_an_upload_it_was_not_given(road: Road) -> None:
    await road.supervisor("one")
    await road.supervisor("two")
    engine = await road.engine("one", capacity=5)
    thief = await road.engine("two", capacity=1)
    caller = road.call(road.request(b"private"))
    opened = await engine.receive(Transcribe)
    await thief.send(PullUpload(opened.request_id, 0, 1))
    await thief.send_raw(msgpack.packb([0, "Heartbeat", {}]))  # answered, and in its turn

    assert isinstance(await thief.receive((UploadPiece, Refused)), Refused)
    caller.cancel()


async def test_garbage_on_the_links_disturbs_nobody(road: Road) -> None:
    supervisor = await road.supervisor()
    engine = await road.engine()
    for peer in (supervisor, engine):
        await peer.send_raw(b"\xc1garbage")
        await peer.send_raw(b"", b"", b"")
    caller = road.call()
    opened = await engine.receive(Transcribe)
    await engine.finish_chunk(opened, 0, "text")
    await engine.finish(opened)

    assert await caller == "text"


async def test_at_the_end_every_open_call_is_answered(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    running = road.call()
    await engine.receive(Transcribe)
    road.link.end_all()

    assert (await running).startswith("shutting_down")


async def test_an_engine_that_connects_again_and_again_convicts_nobody(road: Road) -> None:
    await road.supervisor()
    caller = road.call()
    for attempt in range(1, 7):
        engine = await road.engine()
        opened = await engine.receive(Transcribe)
        assert opened.attempt == attempt
        assert not opened.runs_alone
    await engine.finish_chunk(opened, 0, "text")
    await engine.finish(opened)

    assert await caller == "text"


async def test_a_request_that_loses_engines_for_ever_is_answered(road: Road) -> None:
    await road.supervisor()
    caller = road.call()
    for _ in range(MOST_STARTS):
        engine = await road.engine()
        await engine.receive(Transcribe)
    await road.engine()

    assert (await caller).startswith("worker_failed")


async def test_an_engine_serves_on_while_its_supervisor_is_silent(road: Road) -> None:
    supervisor = await road.supervisor()
    await supervisor.report(EngineState.READY)
    engine = await road.engine()
    supervisor.fall_silent()
    await supervisor.until_silent()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    await engine.finish_chunk(opened, 0, "text")
    await engine.finish(opened)

    assert await caller == "text"


async def test_a_supervisor_that_reconnects_is_taken_in_at_once(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    await road.supervisor()
    await engine.finish_chunk(opened, 0, "text")
    await engine.finish(opened)

    assert await caller == "text"


async def test_a_worker_with_another_model_is_refused_and_the_reason_told(road: Road) -> None:
    stranger = await road.stranger()
    await stranger.receive(Introduce)
    await stranger.send(SupervisorHello("one", "first", "embedded"))

    assert (await stranger.receive(Refused)).code == "other_model"
    snapshot = road.link.snapshot()
    assert not snapshot.can_serve
    assert "set the same MODEL_ID on both" in str(snapshot.reason)


async def test_an_engine_without_room_for_anything_is_refused(road: Road) -> None:
    await road.supervisor()
    engine = await road.unknown_engine()
    await engine.receive(Introduce)
    await engine.send(Hello("one", 1, "model", 0, True))

    assert (await engine.receive(Refused)).code == "no_capacity"


async def test_a_chunk_out_of_order_is_never_part_of_an_answer(road: Road) -> None:
    await road.supervisor()
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    for index in (0, 0, 2):  # one twice, one missing
        await engine.finish_chunk(opened, index, f"chunk {index}")
    await engine.finish(opened, chunks=3)

    assert (await caller).startswith("inference_failed")


async def test_a_recording_cut_differently_by_the_next_engine_has_to_be_sent_again(
    road: Road,
) -> None:
    await road.supervisor()
    engine = await road.engine()
    caller = road.call()
    opened = await engine.receive(Transcribe)
    await engine.send(Failed(opened.request_id, 1, FailureCode.CUT_DIFFERENTLY, "Send it again."))

    assert await caller == "cut_differently: Send it again."


async def test_an_engine_that_gives_a_request_back_gets_nothing_more(road: Road) -> None:
    for worker_id in ("one", "two"):
        await road.supervisor(worker_id)
    ending = await road.engine("one", capacity=9)
    caller = road.call()
    opened = await ending.receive(Transcribe)
    other = await road.engine("two", capacity=1)
    await ending.send(Failed(opened.request_id, 1, FailureCode.SHUTTING_DOWN, "ending"))
    again = await other.receive(Transcribe)
    await other.finish_chunk(again, 0, "text")
    await other.finish(again)

    assert await caller == "text"


async def test_status_reports_do_not_prolong_the_wait_for_an_engine(short_folder: Path) -> None:
    settings = Settings(data_dir=short_folder, model_id="model", worker_start_timeout=0.5)
    async with open_road(settings) as road:
        supervisor = await road.supervisor()
        caller = road.call()
        await supervisor.receive(StartEngine)
        while not caller.done():
            await supervisor.report(EngineState.STARTING)
            await asyncio.wait([caller], timeout=0.1)

        assert (await caller).startswith("worker_unavailable")


async def test_requests_in_flight_at_two_deaths_run_alone_beside_cleared_ones(road: Road) -> None:
    supervisor = await road.supervisor()
    callers = [road.call() for _ in range(3)]
    for epoch in (1, 2):
        await supervisor.report(EngineState.READY, epoch=epoch)
        engine = await road.engine(epoch=epoch, capacity=8)
        for _ in range(3):
            assert not (await engine.receive(Transcribe)).runs_alone
        await supervisor.report(EngineState.BACKING_OFF, epoch=epoch, failure="signal 9")
    await supervisor.report(EngineState.READY, epoch=3)
    engine = await road.engine(epoch=3, capacity=8)
    opened = []
    for _ in range(3):
        opened.append(await engine.receive(Transcribe))
        assert opened[-1].runs_alone
        await engine.finish_chunk(opened[-1], 0, opened[-1].request_id)
    for request in opened:
        await engine.finish(request)

    assert [await caller for caller in callers] == ["req-1", "req-2", "req-3"]


async def test_only_the_one_that_ran_alone_is_blamed_for_a_death(road: Road) -> None:
    supervisor = await road.supervisor()
    poison = road.call()
    for epoch in (1, 2):
        await supervisor.report(EngineState.READY, epoch=epoch)
        engine = await road.engine(epoch=epoch)
        await engine.receive(Transcribe)
        await supervisor.report(EngineState.BACKING_OFF, epoch=epoch, failure="signal 11")
    bystander = road.call()
    for epoch in (3, 4):
        await supervisor.report(EngineState.READY, epoch=epoch)
        engine = await road.engine(epoch=epoch)
        runs_alone = {}
        for _ in range(2):
            opened = await engine.receive(Transcribe)
            runs_alone[opened.request_id] = opened.runs_alone
        assert runs_alone == {"req-1": True, "req-2": False}
        await supervisor.report(EngineState.BACKING_OFF, epoch=epoch, failure="signal 11")

    assert (await poison).startswith("worker_failed")
    await supervisor.report(EngineState.READY, epoch=5)
    engine = await road.engine(epoch=5)
    opened = await engine.receive(Transcribe)
    assert not opened.runs_alone
    await engine.finish_chunk(opened, 0, "fine")
    await engine.finish(opened)
    assert await bystander == "fine"


async def test_without_progress_a_request_times_out_and_the_engine_is_told(
    short_folder: Path,
) -> None:
    settings = Settings(data_dir=short_folder, model_id="model", request_timeout=0.5)
    async with open_road(settings) as road:
        await road.supervisor()
        engine = await road.engine()
        caller = road.call()
        opened = await engine.receive(Transcribe)

        assert (await engine.receive(Cancel)).request_id == opened.request_id
        assert (await caller).startswith("timed_out")


async def test_a_chunk_file_that_cannot_be_made_ends_the_request_and_not_the_link(
    road: Road, settings: Settings
) -> None:
    await road.supervisor()
    request = road.request()
    request.chunks_path.mkdir()

    assert (await road.call(request)).startswith("input_lost")

"""The official Python client against the real server."""

import asyncio
from pathlib import Path
from typing import Literal

import openai
import pytest
from openai.types.audio import (
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
)

from gateway.routes import answering
from gateway.settings import ApiKey
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, chunk_done, final, partial, segment, tokens_of
from tests.gateway.harness import RunningServer, running_server


def client_of(server: RunningServer, **options: object) -> openai.AsyncOpenAI:
    chosen = {"api_key": "dummy", "base_url": server.base_url, "max_retries": 0, **options}
    return openai.AsyncOpenAI(**chosen)  # type: ignore[arg-type]


async def test_transcription_comes_back_as_the_clients_own_type(tmp_path: Path) -> None:
    worker = FakeWorkerClient(chunk_done("one two"), final())

    async with running_server(tmp_path, worker) as server, client_of(server) as client:
        transcription = await client.audio.transcriptions.create(
            file=("call.wav", b"RIFF"), model="whisper-1", language="en", prompt="", temperature=0
        )

    assert transcription.text == "one two"
    assert transcription._request_id is not None
    assert transcription._request_id.startswith("req_")
    assert transcription.usage is not None
    assert transcription.usage.type == "tokens"
    assert transcription.usage.total_tokens == 25


async def test_text_comes_back_as_text(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        text = await client.audio.transcriptions.create(
            file=b"RIFF", model="gpt-4o-transcribe", response_format="text"
        )

    assert text == "one two\n"


async def test_file_of_any_kind_and_lists_arrive(tmp_path: Path) -> None:
    recording = tmp_path / "speech.mp3"
    recording.write_bytes(b"ID3" * 100_000)

    async with running_server(tmp_path, max_upload_bytes=300_000, early_start_bytes=0) as server:
        async with client_of(server) as client:
            await client.audio.transcriptions.create(
                file=recording, model="x", extra_body={"keywords": ["alpha", "beta"]}
            )

        assert server.client.contents == [b"ID3" * 100_000]
        assert server.client.requests[0].keywords == ("alpha", "beta")


async def test_models_are_listed_and_found(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, model_id="Qwen/Qwen3-ASR-0.6B") as server,
        client_of(server) as client,
    ):
        ids = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("Qwen/Qwen3-ASR-0.6B")
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-4")

    assert ids == [model.id] == ["Qwen/Qwen3-ASR-0.6B"]
    assert caught.value.code == "model_not_found"


async def test_bad_request_is_the_clients_bad_request(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.audio.transcriptions.create(file=b"RIFF", model="m", language="xx")

    assert caught.value.param == "language"
    assert caught.value.code == "invalid_value"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id is not None


def spoken() -> FakeWorkerClient:
    """One chunk of two segments, told in parts."""
    return FakeWorkerClient(
        partial("One"),
        chunk_done(
            "One two. Three.",
            segments=[
                segment("One two.", 0.5, 1.5, channel=0),
                segment("Three.", 4.0, 5.0, channel=1),
            ],
            tokens=tokens_of(b"One two.", b" Three."),
        ),
        final(audio_seconds=5.5),
    )


async def test_verbose_transcription_has_its_typed_segments_and_words(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        answer = await client.audio.transcriptions.create(
            file=b"RIFF",
            model="whisper-1",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )

    assert isinstance(answer, TranscriptionVerbose)
    TranscriptionVerbose.model_validate(answer.model_dump(), strict=True)
    assert answer.segments is not None
    assert answer.words is not None
    assert [each.text for each in answer.segments] == ["One two.", " Three."]
    assert [(word.word, word.start) for word in answer.words][:2] == [("One", 0.5), ("two.", 1.0)]
    assert (answer.language, answer.duration) == ("english", 5.5)
    assert answer.usage is not None
    assert answer.usage.seconds == 6


async def test_diarized_transcription_has_typed_speakers(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        answer = await client.audio.transcriptions.create(
            file=b"RIFF",
            model="gpt-4o-transcribe-diarize",
            response_format="diarized_json",
            chunking_strategy="auto",
            known_speaker_names=["agent"],
            known_speaker_references=["data:audio/wav;base64," + "A" * 900_000],
        )

    assert isinstance(answer, TranscriptionDiarized)
    TranscriptionDiarized.model_validate(answer.model_dump(), strict=True)
    assert [(each.speaker, each.text) for each in answer.segments] == [
        ("A", "One two."),
        ("B", "Three."),
    ]


@pytest.mark.parametrize(
    ("response_format", "beginning"), [("srt", "1\n00:00:00,500 -->"), ("vtt", "WEBVTT\n\n")]
)
async def test_subtitles_come_back_as_text(
    tmp_path: Path, response_format: Literal["srt", "vtt"], beginning: str
) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        answer = await client.audio.transcriptions.create(
            file=b"RIFF", model="whisper-1", response_format=response_format
        )

    assert isinstance(answer, str)
    assert answer.startswith(beginning)


async def test_logprobs_come_back_typed(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        answer = await client.audio.transcriptions.create(
            file=b"RIFF", model="gpt-4o-transcribe", response_format="json", include=["logprobs"]
        )

    assert answer.logprobs is not None
    assert [entry.token for entry in answer.logprobs] == ["One two.", " Three."]


async def test_every_other_option_of_the_client_is_taken(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        await client.audio.transcriptions.create(
            file=b"RIFF",
            model="gpt-transcribe",
            chunking_strategy={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200},
            keywords=["alpha", "b c"],
            languages=["de", "en"],
            extra_body={"use_previous_context": True, "audio_track": 0, "max_lines": 1},
        )

        (wanted,) = server.client.requests
    assert wanted.keywords == ("alpha", "b c")
    assert wanted.languages == ("German", "English")
    assert (wanted.uses_previous_context, wanted.audio_track) == (True, 0)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-mini-transcribe"])
async def test_stream_comes_back_as_typed_events(tmp_path: Path, model: str) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        stream = await client.audio.transcriptions.create(file=b"RIFF", model=model, stream=True)
        *deltas, done = [event async for event in stream]

    texts = [event.delta for event in deltas if isinstance(event, TranscriptionTextDeltaEvent)]
    assert texts == ["One", " two. Three."]
    assert isinstance(done, TranscriptionTextDoneEvent)
    TranscriptionTextDoneEvent.model_validate(done.model_dump(), strict=True)
    assert done.text == "".join(texts)
    assert done.usage is not None
    assert done.usage.total_tokens == 25


async def test_stream_with_logprobs_has_them_in_deltas_and_done(tmp_path: Path) -> None:
    worker = spoken()
    worker.script = worker.script[1:]
    async with running_server(tmp_path, worker) as server, client_of(server) as client:
        stream = await client.audio.transcriptions.create(
            file=b"RIFF", model="gpt-4o-transcribe", stream=True, include=["logprobs"]
        )
        delta, done = [event async for event in stream]

    assert isinstance(delta, TranscriptionTextDeltaEvent)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert delta.logprobs is not None
    assert done.logprobs is not None
    assert [entry.bytes for entry in delta.logprobs] == [list(b"One two."), list(b" Three.")]
    assert len(done.logprobs) == 2


async def test_diarized_stream_has_typed_segments(tmp_path: Path) -> None:
    async with running_server(tmp_path, spoken()) as server, client_of(server) as client:
        stream = await client.audio.transcriptions.create(
            file=b"RIFF",
            model="gpt-4o-transcribe-diarize",
            stream=True,
            response_format="diarized_json",
        )
        told = [event async for event in stream]

    segments = [event for event in told if isinstance(event, TranscriptionTextSegmentEvent)]
    assert [(each.id, each.speaker) for each in segments] == [("seg_001", "A"), ("seg_002", "B")]
    assert isinstance(told[0], TranscriptionTextDeltaEvent)
    assert told[0].segment_id == "seg_001"


async def test_quiet_stream_disturbs_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "QUIET_SECONDS", 0.01)
    go_on = asyncio.Event()
    worker = FakeWorkerClient(partial("one"), go_on, chunk_done("one two"), final())

    async with running_server(tmp_path, worker) as server, client_of(server) as client:
        stream = await client.audio.transcriptions.create(file=b"RIFF", model="m", stream=True)
        told = [await anext(stream.__aiter__())]
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        told += [event async for event in stream]

    assert [event.type for event in told] == [
        "transcript.text.delta",
        "transcript.text.delta",
        "transcript.text.done",
    ]


async def test_failure_in_a_stream_is_the_clients_error(tmp_path: Path) -> None:
    failure = TranscriptionFailed(FailureCode.INFERENCE_FAILED, "Try again.")
    worker = FakeWorkerClient(chunk_done("one"), failure)

    async with running_server(tmp_path, worker) as server, client_of(server) as client:
        stream = await client.audio.transcriptions.create(file=b"RIFF", model="m", stream=True)
        with pytest.raises(openai.APIError, match="Try again") as caught:
            async for _ in stream:
                pass

    assert caught.value.code == "inference_failed"


async def test_bad_option_of_a_stream_is_the_clients_bad_request(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.audio.transcriptions.create(
                file=b"RIFF", model="m", stream=True, language="xx"
            )

    assert caught.value.param == "language"


async def test_key_is_checked(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=(ApiKey.of("right"),)) as server:
        async with client_of(server, api_key="right") as client:
            assert (await client.models.list()).data
        async with client_of(server, api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await client.models.list()

    assert caught.value.code == "invalid_api_key"


async def test_too_large_recording_is_not_retried(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, max_upload_bytes=1000) as server,
        client_of(server, max_retries=2) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.audio.transcriptions.create(file=bytes(20_000_000), model="m")

    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("code", "retry_after", "tries"),
    [
        (FailureCode.WORKER_UNAVAILABLE, 0.1, 2),
        (FailureCode.WORKER_FAILED, None, 1),
        (FailureCode.AUDIO_UNDECODABLE, None, 1),
    ],
)
async def test_client_retries_what_may_pass_and_nothing_else(
    tmp_path: Path, code: FailureCode, retry_after: float | None, tries: int
) -> None:
    worker = FakeWorkerClient(TranscriptionFailed(code, "Do this.", retry_after=retry_after))

    async with running_server(tmp_path, worker) as server:
        async with client_of(server, max_retries=1) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await client.audio.transcriptions.create(file=b"RIFF", model="m")

        assert caught.value.message.count("Do this.") == 1
        assert len(server.client.requests) == tries

"""The official Python client against the real server."""

from pathlib import Path

import openai
import pytest

from gateway.settings import ApiKey
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from tests.fakes import FakeWorkerClient, chunk_done, final
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

    async with running_server(tmp_path, max_upload_bytes=300_000) as server:
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


async def test_streaming_is_an_error_and_not_an_empty_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.audio.transcriptions.create(file=b"RIFF", model="m", stream=True)

    assert caught.value.param == "stream"


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

"""Translations through the real app, the real child and a language model on loopback."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import srt
import webvtt

from gateway.settings import Secret
from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode
from protocol.transcription import Progress, Stage
from tests.fakes import FakeWorkerClient, chunk_done, final, segment
from tests.gateway.harness import (
    DEADLINE,
    RunningServer,
    field_part,
    file_part,
    running_server,
    upload_request,
)
from tests.gateway.web_server import (
    Handler,
    Received,
    Reply,
    WebServer,
    asked_lines,
    chat_reply,
    shouting_model,
    translations,
    web_server,
)

PATH = "/v1/audio/translations"
ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-secret"


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def german(*times: tuple[str, float, float]) -> FakeWorkerClient:
    """A worker that hears these German segments in one chunk."""
    segments = [segment(text, start, end) for text, start, end in times]
    text = " ".join(one.text for one in segments)
    chunk = chunk_done(text, language="German", end=160_000, segments=segments)
    return FakeWorkerClient(chunk, final(audio_seconds=10.0))


@asynccontextmanager
async def translating(
    folder: Path,
    client: FakeWorkerClient | None = None,
    model: Handler = shouting_model,
    **settings: Any,
) -> AsyncIterator[tuple[RunningServer, WebServer]]:
    client = client or german(("Guten Tag.", 1.0, 2.0), ("Wie geht's?", 5.0, 6.5))
    async with web_server(model) as llm:
        settings = {
            "openai_base_url": f"{llm.url}/v1",
            "openai_api_key": Secret(KEY),
            "translate_model": "gpt-x",
            **settings,
        }
        async with running_server(folder, client, **settings) as server:
            yield server, llm


@pytest.mark.parametrize("path", [PATH, "/audio/translations"])
async def test_without_a_language_model_translation_is_refused_with_what_to_set(
    tmp_path: Path, path: str
) -> None:
    async with running_server(tmp_path, translate_model="gpt-x") as server:
        answer = await server.upload(field_part("model", "whisper-1"), file_part(), path=path)

        assert answer.status == 400
        assert (answer.error["code"], answer.error["type"]) == (
            "unsupported",
            "invalid_request_error",
        )
        assert "set OPENAI_BASE_URL to" in answer.error["message"]
        assert "/v1/audio/transcriptions" in answer.error["message"]
        assert server.client.requests == []


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by OpenAI, in 2026
async def test_refusal_reaches_a_client_that_sends_everything_first(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.audio.translations.create(file=bytes(5_000_000), model="whisper-1")

    assert caught.value.code == "unsupported"


async def test_other_methods_are_told_which_one_there_is(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get(PATH)

    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_text_comes_back_in_english(tmp_path: Path) -> None:
    async with translating(tmp_path) as (server, llm):
        answer = await server.upload(file_part(), path=PATH)

    assert answer.status == 200
    assert answer.json["text"] == "GUTEN TAG. WIE GEHT'S?"
    assert answer.json["language"] == "English"
    assert answer.headers["x-model"] == "embedded"
    (request,) = llm.received
    assert request.target == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "gpt-x"
    assert "into English" in request.json["messages"][0]["content"]
    assert asked_lines(request) == {1: "Guten Tag.", 2: "Wie geht's?"}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by OpenAI, in 2026
async def test_official_client_reads_every_format(tmp_path: Path) -> None:
    async with (
        translating(tmp_path) as (server, _),
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=0) as client,
    ):
        create = client.audio.translations.create
        plain = await create(file=b"RIFF", model="whisper-1", prompt="greetings", temperature=0.5)
        text: Any = await create(file=b"RIFF", model="whisper-1", response_format="text")
        verbose = await create(file=b"RIFF", model="whisper-1", response_format="verbose_json")
        subtitles: Any = await create(file=b"RIFF", model="whisper-1", response_format="srt")
        web: Any = await create(file=b"RIFF", model="whisper-1", response_format="vtt")

    assert plain.text == "GUTEN TAG. WIE GEHT'S?"
    assert text == "GUTEN TAG. WIE GEHT'S?\n"
    assert (verbose.language, verbose.duration) == ("english", 10.0)
    assert [one.text for one in verbose.segments or ()] == ["GUTEN TAG.", " WIE GEHT'S?"]
    assert [(one.start, one.end) for one in verbose.segments or ()] == [(1.0, 2.0), (5.0, 6.5)]
    assert [cue.content for cue in srt.parse(subtitles)] == ["GUTEN TAG.", "WIE GEHT'S?"]
    assert [cue.text for cue in webvtt.from_string(web).captions] == ["GUTEN TAG.", "WIE GEHT'S?"]
    request = server.client.requests[0]
    assert (request.prompt, request.temperature, request.language) == ("greetings", 0.5, None)


async def test_verbose_answer_has_all_fields(tmp_path: Path) -> None:
    async with translating(tmp_path) as (server, _):
        answer = await server.upload(
            field_part("response_format", "verbose_json"), file_part(), path=PATH
        )

    assert answer.json["task"] == "translate"
    assert answer.json["segments"][0] | {"compression_ratio": 0} == {
        "id": 0,
        "seek": 0,
        "start": 1.0,
        "end": 2.0,
        "text": "GUTEN TAG.",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 0,
        "no_speech_prob": 0.125,
    }


async def test_cues_keep_the_times_they_have_untranslated(tmp_path: Path) -> None:
    spoken = [
        (f"Das ist der Satz {number}.", number * 3.0, number * 3.0 + 2) for number in range(90)
    ]
    form = (field_part("response_format", "srt"), file_part())

    async with translating(tmp_path, german(*spoken)) as (server, llm):
        plain = await server.upload(*form)
        translated = await server.upload(*form, path=PATH)

    before, after = (list(srt.parse(one.body.decode())) for one in (plain, translated))
    assert len(llm.received) == 3
    assert [(cue.start, cue.end) for cue in after] == [(cue.start, cue.end) for cue in before]
    assert [cue.content for cue in after] == [cue.content.upper() for cue in before]


async def test_long_translation_is_broken_into_lines(tmp_path: Path) -> None:
    def wordy(request: Received) -> Reply:
        return chat_reply(translations({number: "word " * 14 for number in asked_lines(request)}))

    async with translating(tmp_path, german(("Guten Tag.", 1.0, 3.0)), wordy) as (server, _):
        answer = await server.upload(
            field_part("response_format", "srt"),
            field_part("max_line_chars", "36"),
            file_part(),
            path=PATH,
        )

    (cue,) = srt.parse(answer.body.decode())
    assert cue.content.replace("\n", " ") == " ".join(["word"] * 14)
    assert [len(line) <= 36 for line in cue.content.splitlines()] == [True, True]


@pytest.mark.parametrize(
    ("fields", "heard", "target"),
    [
        ({"language": "zh"}, None, "Chinese"),
        ({"language": "en"}, None, "English"),
        ({"language": "auto"}, None, "English"),
        ({"target_language": "fr"}, None, "French"),
        ({"target_language": "French", "language": "de"}, "German", "French"),
        ({"target_language": "", "language": "zh"}, None, "Chinese"),
    ],
)
async def test_language_is_the_target_unless_another_field_names_it(
    tmp_path: Path, fields: dict[str, str], heard: str | None, target: str
) -> None:
    async with translating(tmp_path) as (server, llm):
        parts = [field_part(name, value) for name, value in fields.items()]
        answer = await server.upload(*parts, file_part(), path=PATH)

    assert answer.json["language"] == target
    assert f"into {target}." in llm.received[0].json["messages"][0]["content"]
    assert server.client.requests[0].language == heard


async def test_speech_in_the_target_language_is_sent_nowhere(tmp_path: Path) -> None:
    said = chunk_done("good day", language="English", segments=[segment("good day", 0, 1)])
    client = FakeWorkerClient(said, final())

    async with translating(tmp_path, client) as (server, llm):
        plain = await server.upload(file_part(), path=PATH)
        subtitles = await server.upload(
            field_part("response_format", "srt"), file_part(), path=PATH
        )

    assert plain.json["text"] == "good day"
    assert b"good day" in subtitles.body
    assert llm.received == []


async def test_recording_without_speech_is_empty_in_every_language(tmp_path: Path) -> None:
    silence = FakeWorkerClient(chunk_done("", language=None), final())

    async with translating(tmp_path, silence) as (server, llm):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.json["text"]) == (200, "")
    assert llm.received == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_format", "ass"),
        ("response_format", "diarized_json"),
        ("stream", "true"),
        ("target_language", "Klingon"),
        ("language", "Klingon"),
        ("temperature", "hot"),
    ],
)
async def test_field_that_cannot_be_used_is_named_before_anything_is_woken(
    tmp_path: Path, name: str, value: str
) -> None:
    async with translating(tmp_path) as (server, _):
        answer = await server.upload(field_part(name, value), file_part(), path=PATH)

    assert (answer.status, answer.error["param"]) == (400, name)
    assert server.client.requests == []


async def test_recording_that_cannot_be_transcribed_is_told_as_ever(tmp_path: Path) -> None:
    client = FakeWorkerClient(TranscriptionFailed(FailureCode.AUDIO_UNDECODABLE, "Send audio."))

    async with translating(tmp_path, client) as (server, llm):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.error["code"]) == (400, "audio_undecodable")
    assert llm.received == []


async def test_model_that_loses_lines_fails_the_request(tmp_path: Path) -> None:
    async with translating(tmp_path, model=lambda request: chat_reply("No.")) as (server, _):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.error["code"]) == (502, "translation_failed")


async def test_refused_key_is_told_without_showing_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}})

    async with translating(tmp_path, model=lambda request: Reply(401, body.encode())) as (
        server,
        _,
    ):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.error["code"]) == (502, "translation_failed")
    assert "OPENAI_API_KEY" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert "answered 401 invalid_api_key" in caplog.text
    assert KEY not in caplog.text + answer.error["message"]
    assert "Guten" not in caplog.text


def long_german(*ends: object) -> FakeWorkerClient:
    """A worker that has heard the first chunk of a long German recording, then plays `ends`."""
    chunk = chunk_done("Guten Tag.", language="German")
    progress = Progress("req_1", 1, Stage.INFERRING, 1.0, 7200.0)
    return FakeWorkerClient(chunk, progress, *ends)  # type: ignore[arg-type]  # of its script


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_model_that_will_never_translate_ends_the_work_with_the_first_chunk(
    tmp_path: Path, status: int
) -> None:
    client = long_german(asyncio.Event())  # the rest never comes

    async with translating(tmp_path, client, model=lambda request: Reply(status)) as (server, llm):
        answer = await server.upload(file_part(), path=PATH)

        assert (answer.status, answer.error["code"]) == (502, "translation_failed")
        assert answer.headers["x-should-retry"] == "false"
        assert len(llm.received) == 1
        assert len(client.cancelled) == 1
        assert server.spool_files == []


async def test_model_that_is_busy_with_the_first_chunk_may_translate_in_the_end(
    tmp_path: Path,
) -> None:
    replies = iter([Reply(429, headers={"retry-after": "50"})])
    client = long_german(chunk_done("Gut?", index=1, language="German"), final(chunks=2))

    async with translating(
        tmp_path, client, model=lambda request: next(replies, None) or shouting_model(request)
    ) as (server, llm):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.json["text"]) == (200, "GUTEN TAG. GUT?")
    assert len(llm.received) == 2


async def test_busy_model_is_told_with_its_wait(tmp_path: Path) -> None:
    busy = Reply(429, headers={"retry-after": "50"})

    async with translating(tmp_path, model=lambda request: busy) as (server, _):
        answer = await server.upload(file_part(), path=PATH)

    assert (answer.status, answer.error["code"]) == (503, "translation_busy")
    assert answer.headers["retry-after"] == "50"


async def test_caller_that_leaves_ends_the_question_to_the_model(tmp_path: Path) -> None:
    async def never(request: Received) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with translating(tmp_path, model=never) as (server, llm):
        async with server.connection() as (_, writer):
            writer.write(upload_request(file_part(), path=PATH))
            await llm.arrived.wait()
            assert server.spool_files == [], "the recording is not kept for the translation"
        async with asyncio.timeout(DEADLINE):
            await llm.was_left.wait()


async def test_proxies_are_kept_awake_while_the_model_thinks(tmp_path: Path) -> None:
    thought = asyncio.Event()

    async def slow(request: Received) -> Reply:
        await thought.wait()
        return shouting_model(request)

    async with translating(tmp_path, model=slow, keepalive_seconds=0.01) as (server, _):
        async with server.connection() as (reader, writer):
            writer.write(upload_request(file_part(), path=PATH))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b" ")
            thought.set()
            rest = await reader.readuntil(b"\r\n0\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert b"GUTEN TAG." in rest


PROGRAM = """
import sys
from gateway.light_imports import leave_out_tls
assert leave_out_tls()
import asyncio
from pathlib import Path
from tests.fakes import FakeWorkerClient, chunk_done, final
from tests.gateway.harness import file_part, running_server
async def main():
    client = FakeWorkerClient(chunk_done("hallo", language="German"), final())
    settings = {"openai_base_url": sys.argv[1], "translate_model": "gpt-x"}
    async with running_server(Path(sys.argv[2]), client, **settings) as server:
        answer = await server.upload(file_part(), path="/v1/audio/translations")
        print(answer.json["text"], server.gateway.outbound.process_id is not None)
asyncio.run(main())
print(sorted(name for name in ("ssl", "_ssl", "httpx2", "_hashlib") if sys.modules.get(name)))
print("libssl" in Path("/proc/self/maps").read_text())
"""


async def test_gateway_has_not_loaded_tls_after_a_translation(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE), web_server(shouting_model) as llm:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, llm.url, str(tmp_path)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        output, _ = await process.communicate()

    assert output.decode().splitlines() == ["HALLO True", "[]", "False"]

"""POST /asr and /detect-language as Bazarr and other clients of whisper-asr-webservice call them.

Options stand in the query; the recording is the part `audio_file`, with encode=false mostly a whole
film as bare PCM. Errors have no body: Bazarr keeps any body as subtitles.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from gateway.boundary import ClientGone, RequestRecord, record_of
from gateway.context import Gateway
from gateway.errors import ApiError, BadRequest, NotOffered, Unprocessable
from gateway.formats.documents import JSON, PLAIN_TEXT, Document
from gateway.formats.json_pieces import encoded
from gateway.formats.translated import Translated
from gateway.formats.webservice import Detection, Lines, TranslatedSegments, WhisperJson
from gateway.headerless import Intake
from gateway.multipart import Form
from gateway.open_answer import send_whole
from gateway.routes import answers, translations
from gateway.routes.options import (
    CUE_FIELDS,
    FALSE_WORDS,
    TRUE_WORDS,
    TranscriptionOptions,
    parse_options,
)
from gateway.routes.transcriptions import TranscriptionRoutes
from gateway.routes.translations import TARGET, TranslationRoutes
from gateway.shared_runs import CallerLeft, SharedRuns
from gateway.uploads import wait_for_disconnect
from gateway.worker_client.interface import TranscriptionRequest
from protocol.transcription import ChunkDone, Partial, Progress

if TYPE_CHECKING:
    from gateway.translation.early_check import EarlyCheck
    from gateway.translation.translator import Translator

FILE_FIELD = "audio_file"
TASKS = ("transcribe", "translate")
OUTPUTS = {"txt": "text", "vtt": "vtt", "srt": "srt", "tsv": "text", "json": "verbose_json"}
"""What can be asked for -> the response_format that needs the same of the worker."""
PASSED_ON = ("language", "audio_track", "use_previous_context", *CUE_FIELDS)
"""Parameters that mean what they mean as fields of /v1/audio/transcriptions."""
ENOUGH_SPEECH = 30.0
"""Seconds of speech by which a language is known: what whisper listens to."""
ENGINE = "qwen3_asr"

Key = tuple[str | None, bytes, str]
"""Whose, of what, how."""
Pieces = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the query asks for."""

    output: str
    options: TranscriptionOptions
    translates: bool
    may_lack_header: bool


class AsrWebserviceRoutes:
    """The handlers, and what they share."""

    def __init__(
        self,
        gateway: Gateway,
        transcriptions: TranscriptionRoutes,
        translations: TranslationRoutes,
    ) -> None:
        self._gateway = gateway
        self._transcriptions = transcriptions
        self._translations = translations
        self._runs: SharedRuns[Key, Pieces] = SharedRuns()

    async def asr(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Transcribe, or translate into English, once for all who send the same at the same time.

        Raises ApiError, and ClientGone where the caller left.
        """
        wish = parse_query(QueryParams(scope["query_string"]))
        translator = self._translator() if wish.translates else None
        record = record_of(scope)
        intake = Intake(may_lack_header=wish.may_lack_header)
        async with self._transcriptions.received(
            scope, receive, file_field=FILE_FIELD, through=intake.into
        ) as (upload, form):
            key = (record.owner, intake.digest, repr(wish))
            if self._runs.is_under_way(key):
                upload.delete()
                record.details["shares_run"] = True
            wanted = answers.request_for(
                wish.options, upload, request_id=record.request_id, owner=record.owner
            )
            pieces = await self._result(key, self._work(wanted, wish, translator, record), receive)
        await send_whole(send, pieces, self._headers(form.file_name, wish.output))

    async def detect_language(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Listen until the language is known. Raises ApiError, and ClientGone."""
        is_encoded = _is_true(QueryParams(scope["query_string"]), "encode", default="true")
        record = record_of(scope)
        intake = Intake(may_lack_header=not is_encoded)
        async with self._transcriptions.received(
            scope, receive, file_field=FILE_FIELD, through=intake.into
        ) as (upload, _):
            wanted = answers.request_for(
                TranscriptionOptions(), upload, request_id=record.request_id, owner=record.owner
            )
            detection = await self._detected(wanted, record, receive)
        headers = {"content-type": JSON, **answers.model_headers(self._gateway.settings)}
        await send_whole(send, [encoded(detection.json())], headers)

    def _translator(self) -> "Translator":
        try:
            return self._translations.translator()
        except BadRequest as error:
            raise NotOffered(error.message) from None

    async def _result(
        self, key: Key, work: Callable[[], Awaitable[Pieces]], receive: Receive
    ) -> Pieces:
        try:
            return await self._runs.result(key, work, partial(wait_for_disconnect, receive))
        except CallerLeft:
            raise ClientGone from None

    def _work(
        self,
        wanted: TranscriptionRequest,
        wish: Wish,
        translator: "Translator | None",
        record: RequestRecord,
    ) -> Callable[[], Awaitable[Pieces]]:
        if translator is None:
            return partial(self._transcribed, wanted, wish, record)
        return partial(self._translated, wanted, wish, translator, record)

    async def _transcribed(
        self, wanted: TranscriptionRequest, wish: Wish, record: RequestRecord
    ) -> Pieces:
        """Raises ApiError."""
        document = document_for(wish)
        audio_seconds = await self._heard(wanted, document, record)
        return await _printed(document, audio_seconds)

    async def _translated(
        self,
        wanted: TranscriptionRequest,
        wish: Wish,
        translator: "Translator",
        record: RequestRecord,
    ) -> Pieces:
        """Raises ApiError."""
        from gateway.translation.early_check import EarlyCheck

        document = translated_document_for(wish)
        early_check = EarlyCheck(translator, TARGET)
        audio_seconds = await self._heard(wanted, document, record, early_check)
        if lines := await asyncio.to_thread(document.lines, audio_seconds):
            translated = await translator.translate(lines, TARGET)
            await asyncio.to_thread(document.translate, translated)
        return await _printed(document, audio_seconds)

    async def _heard(
        self,
        wanted: TranscriptionRequest,
        document: Document | Translated,
        record: RequestRecord,
        early_check: "EarlyCheck | None" = None,
    ) -> float:
        async def take(message: ChunkDone | Partial | Progress) -> None:
            if isinstance(message, ChunkDone):
                document.add(message)
            if early_check is not None:
                await early_check.take(message)

        outcome = await self._transcriptions.outcome(wanted, take, record)
        if isinstance(outcome, ApiError):
            raise outcome
        return outcome

    async def _detected(
        self, wanted: TranscriptionRequest, record: RequestRecord, receive: Receive
    ) -> Detection:
        detection = Detection(ENOUGH_SPEECH)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen(wanted, detection, record))
            leaving = tasks.create_task(wait_for_disconnect(receive))
            await asyncio.wait((listening, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (listening, leaving):
                task.cancel()
        if listening.cancelled():
            raise ClientGone
        if (error := listening.result()) is not None:
            raise error
        return detection

    async def _listen(
        self, wanted: TranscriptionRequest, detection: Detection, record: RequestRecord
    ) -> ApiError | None:
        """The failure is returned, not raised: a task group would wrap it."""

        async def take(message: ChunkDone | Partial | Progress) -> None:
            if isinstance(message, ChunkDone):
                detection.add(message)
                if detection.is_settled:
                    raise _HeardEnough

        try:
            outcome = await self._transcriptions.outcome(wanted, take, record)
        except _HeardEnough:
            return None
        return outcome if isinstance(outcome, ApiError) else None

    def _headers(self, file_name: str, output: str) -> dict[str, str]:
        name = f"{quote(file_name, safe=' ()[]') or FILE_FIELD}.{output}"
        return {
            "content-type": PLAIN_TEXT,
            "content-disposition": f'attachment; filename="{name}"',
            "asr-engine": ENGINE,
            **answers.model_headers(self._gateway.settings),
        }


class _HeardEnough(Exception):
    """The rest of the recording need not be heard."""


def parse_query(query: QueryParams) -> Wish:
    """Raises Unprocessable. Unknown parameters are ignored, as clients send many."""
    output = query.get("output", "txt").strip().lower()
    if output not in OUTPUTS:
        raise Unprocessable(f"output is one of {', '.join(OUTPUTS)}.", param="output")
    task = query.get("task", TASKS[0]).strip().lower()
    if task not in TASKS:
        raise Unprocessable(f"task is one of {', '.join(TASKS)}.", param="task")
    has_words = _is_true(query, "word_timestamps", default="false")
    options = _options(query, OUTPUTS[output])
    return Wish(
        output,
        replace(options, granularities=("segment", "word") if has_words else ("segment",)),
        translates=task == "translate",
        may_lack_header=not _is_true(query, "encode", default="true"),
    )


def _options(query: QueryParams, response_format: str) -> TranscriptionOptions:
    fields = [(name, value) for name, value in query.multi_items() if name in PASSED_ON]
    fields.append(("prompt", query.get("initial_prompt", "")))
    fields.append(("response_format", response_format))
    try:
        return parse_options(Form(tuple(fields)))
    except BadRequest as error:
        raise Unprocessable(error.message, param=error.param) from None


def _is_true(query: QueryParams, name: str, *, default: str) -> bool:
    word = query.get(name, "").strip().lower() or default
    if word not in (*TRUE_WORDS, *FALSE_WORDS):
        raise Unprocessable(f"{name} is true or false.", param=name)
    return word in TRUE_WORDS


def document_for(wish: Wish) -> Document:
    """The answer without a translation."""
    if wish.output == "json":
        return WhisperJson(wish.options.language, with_words="word" in wish.options.granularities)
    if wish.output in ("txt", "tsv"):
        return Lines(with_times=wish.output == "tsv")
    return answers.document_for(wish.options)


def translated_document_for(wish: Wish) -> Translated:
    """The answer in English."""
    if wish.output in ("srt", "vtt"):
        return translations.document_for(wish.options, TARGET)
    options = replace(wish.options, language=TARGET)
    return TranslatedSegments(document_for(replace(wish, options=options)), TARGET)


async def _printed(document: Document | Translated, audio_seconds: float) -> Pieces:
    if document.takes_long:
        return await asyncio.to_thread(lambda: tuple(document.finish(audio_seconds)))
    return tuple(document.finish(audio_seconds))

"""POST /v1/audio/transcriptions: one uploaded recording in, its transcript out."""

import asyncio
from contextlib import aclosing
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.boundary import ClientGone, RequestRecord, record_of
from gateway.context import Gateway
from gateway.errors import from_failure, queue_full, shutting_down
from gateway.formats.transcripts import Transcript, Usage, join_chunks
from gateway.memory import MemoryTrimmer
from gateway.routes.options import TranscriptionOptions, parse_options
from gateway.spool import SpooledUpload
from gateway.uploads import receive_form, wait_for_disconnect
from gateway.worker_client.interface import TranscriptionFailed, TranscriptionRequest
from protocol.languages import code_of
from protocol.transcription import ChunkDone, Final


class TranscriptionRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._memory = MemoryTrimmer()

    async def create(self, request: Request) -> Response:
        """Receive, check, transcribe, render; the upload is gone before the answer is sent."""
        self._refuse_early()
        record = record_of(request.scope)
        settings = self._gateway.settings
        with self._memory.upload(), self._gateway.worker_client.expecting():
            async with self._gateway.spool.new_upload() as upload:
                form = await receive_form(
                    request.scope,
                    request.receive,
                    upload,
                    max_file_bytes=settings.max_upload_bytes,
                    stall_timeout=settings.body_timeout,
                )
                options = parse_options(form)
                transcript = await self._transcribe(request, record, upload, options)
        return self._rendered(transcript, options)

    def _refuse_early(self) -> None:
        """Refuse before the body is read what would be refused after it."""
        if self._gateway.is_draining:
            raise shutting_down()
        waiting = self._gateway.worker_client.snapshot().waiting_requests
        if waiting >= self._gateway.settings.max_waiting_requests:
            raise queue_full()

    async def _transcribe(
        self,
        request: Request,
        record: RequestRecord,
        upload: SpooledUpload,
        options: TranscriptionOptions,
    ) -> Transcript:
        """Raises ApiError, and ClientGone as soon as the caller leaves; the work ends then too."""
        wanted = TranscriptionRequest(
            request_id=record.request_id,
            owner=record.owner,
            spool_file=upload.name,
            upload_path=upload.path,
            upload_bytes=upload.size,
            chunks_path=upload.chunks_path,
            language=options.language,
            prompt=options.prompt,
            keywords=options.keywords,
            temperature=options.temperature,
        )
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._outcome(wanted, record))
            leaving = tasks.create_task(wait_for_disconnect(request.receive))
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            leaving.cancel()
        if working.cancelled():
            raise ClientGone
        outcome = working.result()
        if isinstance(outcome, TranscriptionFailed):
            raise from_failure(outcome) from outcome.__cause__
        return outcome

    async def _outcome(
        self, wanted: TranscriptionRequest, record: RequestRecord
    ) -> Transcript | TranscriptionFailed:
        """The failure is returned, not raised: a task group would wrap it."""
        chunks: list[ChunkDone] = []
        try:
            async with aclosing(self._gateway.worker_client.transcribe(wanted)) as messages:
                async for message in messages:
                    if isinstance(message, ChunkDone):
                        chunks.append(message)
                    elif isinstance(message, Final):
                        record.details["audio_seconds"] = message.audio_seconds
                        record.details["chunks"] = message.chunks
        except TranscriptionFailed as failure:
            record.details["failure"] = str(failure.code)
            return failure
        return join_chunks(chunks)

    def _rendered(self, transcript: Transcript, options: TranscriptionOptions) -> Response:
        headers = {"x-model": quote(self._gateway.settings.served_model)}
        if options.response_format == "text":
            return PlainTextResponse(transcript.text + "\n", headers=headers)
        return JSONResponse(json_answer(transcript, options.language), headers=headers)


def json_answer(transcript: Transcript, asked_language: str | None) -> dict[str, object]:
    """OpenAI's json format, plus `language`, which the predecessor's clients read."""
    return {
        "text": transcript.text,
        "language": transcript.language or asked_language or "",
        "languages": [{"code": code_of(language)} for language in transcript.languages],
        "usage": usage_object(transcript.usage),
    }


def usage_object(usage: Usage) -> dict[str, object]:
    """OpenAI's account by tokens."""
    return {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "input_token_details": {
            "text_tokens": usage.prompt_tokens - usage.audio_tokens,
            "audio_tokens": usage.audio_tokens,
        },
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }

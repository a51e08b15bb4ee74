"""Routes of jaaacki/qwen3-asr that OpenAI's API has not: its stream, and its subtitles."""

from dataclasses import replace

from starlette.types import Receive, Scope, Send

from gateway.context import Gateway
from gateway.errors import BadRequest
from gateway.formats.predecessor import ChunkEvents, stream_failure
from gateway.multipart import Form
from gateway.routes.answering import Answer, PlainAnswer, StreamedAnswer
from gateway.routes.answers import document_for, model_headers
from gateway.routes.options import TranscriptionOptions, parse_options
from gateway.routes.transcriptions import TranscriptionRoutes
from gateway.settings import Settings

MODES = ("accurate", "fast")
"""Both are made alike: words are as exact as they can be in either."""
SUBTITLE_FIELDS = ("file", "language", "mode", "max_line_chars")
STREAM_FIELDS = ("file", "language", "return_timestamps")


class PredecessorRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway, transcriptions: TranscriptionRoutes) -> None:
        self._gateway = gateway
        self._transcriptions = transcriptions

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A transcript, chunk by chunk. Raises as TranscriptionRoutes.serve does."""

        def answer_to(form: Form) -> tuple[TranscriptionOptions, Answer]:
            options = parse_options(_only(form, STREAM_FIELDS))
            headers = {**model_headers(self._gateway.settings), "connection": "keep-alive"}
            events = ChunkEvents(options.language)
            return options, StreamedAnswer(events, send, headers, failure=stream_failure)

        await self._transcriptions.serve(scope, receive, answer_to)

    async def subtitles(self, scope: Scope, receive: Receive, send: Send) -> None:
        """SubRip. Raises as TranscriptionRoutes.serve does."""

        def answer_to(form: Form) -> tuple[TranscriptionOptions, Answer]:
            settings = self._gateway.settings
            options = _by_rules_of(settings, parse_subtitles(form))
            headers = {
                **model_headers(settings),
                "content-disposition": 'attachment; filename="subtitles.srt"',
            }
            return options, PlainAnswer(document_for(options), send, headers, keepalive=0.0)

        await self._transcriptions.serve(scope, receive, answer_to)


def parse_subtitles(form: Form) -> TranscriptionOptions:
    """Raises BadRequest."""
    if (form.choice("mode").lower() or MODES[0]) not in MODES:
        raise BadRequest("mode is accurate or fast.", param="mode", code="INVALID_MODE")
    fields = _only(form, SUBTITLE_FIELDS).fields
    return parse_options(Form((*fields, ("response_format", "srt"))))


def _by_rules_of(settings: Settings, options: TranscriptionOptions) -> TranscriptionOptions:
    rules = {
        "min_duration": settings.subtitle_min_duration,
        "max_duration": settings.subtitle_max_duration,
        "gap": settings.subtitle_min_gap,
        "pause": settings.subtitle_pause_threshold,
    }
    return replace(options, cue_rules={**options.cue_rules, **rules})


def _only(form: Form, names: tuple[str, ...]) -> Form:
    """A form with these fields: others mean nothing on these routes, and are ignored there."""
    return Form(tuple((name, value) for name, value in form.fields if name in names))

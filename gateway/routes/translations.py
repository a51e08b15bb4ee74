"""POST /v1/audio/translations: a recording in, its text in another language out.

The recording is transcribed like any other; then a language model, which the operator names,
translates line by line. A text that is not translated is never given in its place.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from starlette.types import Receive, Scope, Send

from gateway.boundary import ClientGone
from gateway.context import Gateway
from gateway.errors import ApiError, BadRequest, InternalError
from gateway.formats.translated import Translated, TranslatedSubtitles, TranslatedText
from gateway.multipart import Form
from gateway.routes.answering import Answer, PlainAnswer
from gateway.routes.answers import SUBTITLE_TYPES, model_headers
from gateway.routes.options import TranscriptionOptions, parse_options
from gateway.routes.transcriptions import TranscriptionRoutes
from gateway.uploads import wait_for_disconnect
from protocol.languages import UnknownLanguage, parse_language
from protocol.transcription import ChunkDone, Partial, Progress

if TYPE_CHECKING:
    from gateway.formats.cue_rules import CueRules
    from gateway.formats.cues import Cue
    from gateway.translation.translator import Translator

Made = TypeVar("Made")
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
TARGET = "English"
"""What OpenAI's route translates into, and the default of ours."""


class TranslationRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway, transcriptions: TranscriptionRoutes) -> None:
        self._gateway = gateway
        self._transcriptions = transcriptions

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive, check, transcribe, translate, answer.

        Raises ApiError, and ClientGone as soon as the caller leaves; the work ends then too.
        """
        translator = self.translator()

        def answer_to(form: Form) -> tuple[TranscriptionOptions, Answer]:
            options, language = parse_translation(form)
            document = document_for(options, language)
            settings = self._gateway.settings
            answer = PlainAnswer(
                document, send, model_headers(settings), keepalive=settings.keepalive_seconds
            )
            return options, TranslatedAnswer(answer, document, translator, language, receive)

        await self._transcriptions.serve(scope, receive, answer_to)

    def translator(self) -> "Translator":
        """Raises BadRequest where no language model is set; loads the code for it at first use."""
        settings = self._gateway.settings
        needed = {
            "OPENAI_BASE_URL": settings.openai_base_url,
            "TRANSLATE_MODEL": settings.translate_model,
        }
        missing = [name for name, value in needed.items() if value is None]
        if settings.openai_base_url is None or settings.translate_model is None:
            raise BadRequest(
                "This server transcribes and is not set up to translate: its operator can set "
                f"{' and '.join(missing)} to have a language model do so. The text in the language "
                "that is spoken comes from /v1/audio/transcriptions.",
                code="unsupported",
            )
        from gateway.translation.chat import Chat, LanguageModel
        from gateway.translation.translator import Translator

        model = LanguageModel(
            settings.openai_base_url,
            settings.translate_model,
            settings.openai_api_key,
            settings.request_timeout,
        )
        return Translator(Chat(model, self._gateway.outbound))


class TranslatedAnswer:
    """The whole translation at once, when the recording is transcribed and translated."""

    def __init__(
        self,
        answer: PlainAnswer,
        document: Translated,
        translator: "Translator",
        language: str,
        receive: Receive,
    ) -> None:
        from gateway.translation.early_check import EarlyCheck

        self._answer = answer
        self._early_check = EarlyCheck(translator, language)
        self._document = document
        self._translator = translator
        self._language = language
        self._receive = receive

    async def take(self, message: ChunkDone | Partial | Progress) -> None:
        """See Answer. Raises as soon as it is known that no translation will come."""
        await self._answer.take(message)
        await self._early_check.take(message)

    async def keep_awake(self) -> None:
        """See Answer."""
        await self._answer.keep_awake()

    async def fail(self, error: ApiError) -> None:
        """See Answer."""
        await self._answer.fail(error)

    async def finish(self, audio_seconds: float) -> None:
        """Translate, and send; raises ApiError, and ClientGone as soon as the caller leaves."""
        document = self._document
        if lines := await self._made(lambda: document.lines(audio_seconds)):
            translated = await self._translated(lines)
            await self._made(lambda: document.translate(translated))
        await self._answer.finish(audio_seconds)

    async def _made(self, make: Callable[[], Made]) -> Made:
        return await asyncio.to_thread(make) if self._document.takes_long else make()

    async def _translated(self, lines: Sequence[str]) -> Sequence[str]:
        try:
            outcome = await self._outcome_unless_gone(lines)
        except Exception:
            await self.fail(InternalError())
            raise
        if isinstance(outcome, ApiError):
            await self.fail(outcome)
            raise outcome
        return outcome

    async def _outcome_unless_gone(self, lines: Sequence[str]) -> Sequence[str] | ApiError:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._outcome(lines))
            leaving = tasks.create_task(wait_for_disconnect(self._receive))
            awake = tasks.create_task(self.keep_awake())
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, leaving, awake):
                task.cancel()
        if working.cancelled():
            raise ClientGone
        return working.result()

    async def _outcome(self, lines: Sequence[str]) -> Sequence[str] | ApiError:
        """The failure is returned, not raised: a task group would wrap it."""
        try:
            return await self._translator.translate(lines, self._language)
        except ApiError as error:
            return error


def parse_translation(form: Form) -> tuple[TranscriptionOptions, str]:
    """How to transcribe, and into which language (its English name) to translate.

    `language` is the target, as the predecessor has it, unless `target_language` names one: then it
    is the language of the speech, as with transcriptions. Raises BadRequest.
    """
    options = parse_options(form)
    if options.response_format not in FORMATS:
        raise BadRequest(
            f"Translations have no such response_format. Use one of: {', '.join(FORMATS)}.",
            param="response_format",
            code="unsupported_value",
        )
    if options.is_streamed:
        raise BadRequest(
            "Translations cannot be streamed: leave stream out.",
            param="stream",
            code="unsupported_value",
        )
    options = replace(options, wants_logprobs=False)
    target = form.choice("target_language")
    if not target:
        return replace(options, language=None), options.language or TARGET
    try:
        return options, parse_language(target) or TARGET
    except UnknownLanguage as error:
        raise BadRequest(str(error), param="target_language") from None


def document_for(options: TranscriptionOptions, language: str) -> Translated:
    """The answer of this request."""
    if options.response_format in ("srt", "vtt"):
        return _subtitles(options.response_format, options.cue_rules, language)
    return TranslatedText(options.response_format, language, options.temperature)


def _subtitles(response_format: str, wishes: Mapping[str, float], language: str) -> Translated:
    """Subtitle code is loaded with the first request for it."""
    from gateway.formats import subtitles
    from gateway.formats.cue_rules import rules_for

    def rules_of(spoken: str | None) -> "CueRules":
        return rules_for(spoken, **wishes)  # type: ignore[arg-type]  # were checked

    def printed(cues: "Sequence[Cue]") -> str:
        return subtitles.vtt(cues) if response_format == "vtt" else subtitles.srt(cues)

    media_type = SUBTITLE_TYPES.get(response_format, "text/plain; charset=utf-8")
    return TranslatedSubtitles(media_type, language, rules_of, printed)

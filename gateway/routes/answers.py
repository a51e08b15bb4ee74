"""Which answer a request's options ask for, and what of the worker it needs. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.formats.diarized import DiarizedJson
from gateway.formats.documents import PLAIN_TEXT, Document, Json, Subtitles, Text
from gateway.formats.events import ConversationEvents, Events, TranscriptEvents
from gateway.formats.verbose import TimedLists, VerboseJson
from gateway.routes.options import SUBTITLE_FORMATS, TranscriptionOptions
from gateway.settings import Settings
from gateway.spool import SpooledUpload
from gateway.worker_client.interface import TranscriptionRequest
from protocol.transcription import Segment

if TYPE_CHECKING:
    from gateway.formats.cue_rules import CueRules

SUBTITLE_TYPES = {"vtt": "text/vtt; charset=utf-8"}
"""Content-Types of subtitles where it is not plain text, which every client shows as it is."""


_TIMED_FORMATS = (*SUBTITLE_FORMATS, "verbose_json", "diarized_json")


def model_headers(settings: Settings) -> dict[str, str]:
    """What every answer says of the model."""
    return {"x-model": quote(settings.served_model)}


def document_for(options: TranscriptionOptions) -> Document:
    """The plain answer of this request."""
    if options.response_format in SUBTITLE_FORMATS:
        return _subtitles(options)
    if options.response_format == "text":
        return Text()
    if options.response_format == "verbose_json":
        return VerboseJson(options.language, _timed_lists(options))
    if options.response_format == "diarized_json":
        return DiarizedJson()
    return Json(options.language, with_logprobs=options.wants_logprobs)


def events_for(options: TranscriptionOptions) -> Events:
    """The streamed answer of this request."""
    if options.response_format == "diarized_json":
        return ConversationEvents()
    lists = _timed_lists(options) if options.response_format == "verbose_json" else None
    return TranscriptEvents(options.language, lists, with_logprobs=options.wants_logprobs)


def request_for(
    options: TranscriptionOptions,
    upload: SpooledUpload,
    *,
    request_id: str,
    owner: str | None,
) -> TranscriptionRequest:
    """What is asked of the worker."""
    is_diarized = options.response_format == "diarized_json"
    return TranscriptionRequest(
        request_id=request_id,
        owner=owner,
        spool_file=upload.name,
        upload_path=upload.path,
        upload_bytes=upload.size,
        chunks_path=upload.chunks_path,
        language=options.language,
        prompt=options.prompt,
        keywords=options.keywords,
        temperature=options.temperature,
        languages=options.languages,
        # A delta with the probabilities of its tokens, or with its speaker, is that of a chunk.
        wants_partials=options.is_streamed and not options.wants_logprobs and not is_diarized,
        wants_logprobs=options.wants_logprobs or options.response_format == "verbose_json",
        splits_channels=is_diarized,
        uses_previous_context=options.uses_previous_context,
        audio_track=options.audio_track,
        wants_words=options.response_format in _TIMED_FORMATS,
    )


def _timed_lists(options: TranscriptionOptions) -> TimedLists:
    return TimedLists(
        options.temperature,
        with_segments="segment" in options.granularities,
        with_words="word" in options.granularities,
    )


def _subtitles(options: TranscriptionOptions) -> Document:
    """Subtitle code is loaded with the first request for it: a server without one needs none."""
    from gateway.formats import subtitles
    from gateway.formats.cue_rules import rules_for
    from gateway.formats.cues import iter_cues

    def rules_of(language: str | None) -> "CueRules":
        return rules_for(language, **options.cue_rules)  # type: ignore[arg-type]  # were checked

    def printed(segments: Sequence[Segment], rules: "CueRules", until: float) -> str:
        cues = iter_cues(segments, rules, until=until)
        if options.response_format == "vtt":
            return subtitles.vtt(cues, word_times=options.has_word_times)
        if options.response_format == "ass":
            return subtitles.ass(cues, karaoke=options.has_word_times)
        return subtitles.lrc(cues) if options.response_format == "lrc" else subtitles.srt(cues)

    media_type = SUBTITLE_TYPES.get(options.response_format, PLAIN_TEXT)
    return Subtitles(media_type, options.language, rules_of, printed)

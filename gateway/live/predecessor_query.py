"""What a client of /ws/transcribe asks for in its handshake. Pure."""

from dataclasses import dataclass

from starlette.datastructures import QueryParams

from gateway.errors import BadRequest
from gateway.live.messages import clean
from gateway.live.query import (
    TRUE_WORDS,
    call_id_of,
    channels_of,
    is_on,
    number,
    sample_rate_of,
    whole,
)
from gateway.settings import Settings
from protocol.languages import UnknownLanguage, parse_language
from protocol.live import Encoding, LiveOptions, Strategy, StreamFormat, TurnDetection

ENCODINGS = {
    "pcm_s16le": Encoding.PCM16,
    "mulaw": Encoding.MULAW,
    "alaw": Encoding.ALAW,
}
SAMPLE_RATES = (8_000, 16_000)
"""Of clients that did not ask for events."""
DEFAULT_LANGUAGE = "English"
"""jaaacki/qwen3-asr's, until a client configures another."""
BYTES_PER_SECOND = 32_000
"""Of WS_BUFFER_SIZE, whatever a client sends."""
UNSUPPORTED_SAMPLE_RATE = "UNSUPPORTED_SAMPLE_RATE"
INVALID_PARAMETER = "INVALID_PARAMETER"


@dataclass(frozen=True, slots=True)
class Wishes:
    """Of one session, for its beginning."""

    format: StreamFormat
    encoding_name: str
    language: str
    """As the client wrote it."""
    uses_server_vad: bool
    turn_detection: TurnDetection
    """While it is used."""
    options: LiveOptions
    call_id: str
    wants_events: bool


def wishes_of(query: QueryParams, settings: Settings) -> Wishes:
    """Raises BadRequest, whose code is one of this dialect's."""
    try:
        return _wishes(query, settings)
    except BadRequest as error:
        if error.code == UNSUPPORTED_SAMPLE_RATE:
            raise
        raise BadRequest(error.message, param=error.param, code=INVALID_PARAMETER) from None


def _wishes(query: QueryParams, settings: Settings) -> Wishes:
    wants_events = is_on(query, "events")
    name = query.get("encoding", "") or "pcm_s16le"
    if name not in ENCODINGS:
        raise BadRequest(f"encoding is one of: {', '.join(ENCODINGS)}.", param="encoding")
    language = clean(query.get("language", "")) or DEFAULT_LANGUAGE
    vad_word = query.get("use_server_vad", "").strip().lower()
    uses_server_vad = vad_word in TRUE_WORDS if vad_word else settings.ws_server_vad
    detection = TurnDetection(
        threshold=number(query, "threshold", 0.5, 0, 1),
        prefix_padding_ms=whole(query, "prefix_padding_ms", 300, 0, 10_000),
        silence_duration_ms=whole(query, "silence_duration_ms", 500, 0, 60_000),
    )
    return Wishes(
        format=StreamFormat(
            ENCODINGS[name],
            _sample_rate(query, ENCODINGS[name], takes_any=wants_events),
            channels_of(query),
        ),
        encoding_name=name,
        language=language,
        uses_server_vad=uses_server_vad,
        turn_detection=detection,
        options=_options(query, settings, language, detection if uses_server_vad else None),
        call_id=call_id_of(query),
        wants_events=wants_events,
    )


def language_named(text: str) -> str | None:
    """The model's name of a language; None where it is to be detected. Raises BadRequest."""
    try:
        return parse_language(text)
    except UnknownLanguage as error:
        raise BadRequest(str(error), param="language", code="UNSUPPORTED_LANGUAGE") from None


def _sample_rate(query: QueryParams, encoding: Encoding, *, takes_any: bool) -> int:
    default = 16_000 if encoding is Encoding.PCM16 else 8_000
    if takes_any:
        return sample_rate_of(query, default)
    given = query.get("sample_rate", "").strip() or str(default)
    if given not in (str(rate) for rate in SAMPLE_RATES):
        message = "sample_rate is 8000 or 16000; with events=1 it may be from 8000 to 48000."
        raise BadRequest(message, param="sample_rate", code=UNSUPPORTED_SAMPLE_RATE)
    return int(given)


def _options(
    query: QueryParams, settings: Settings, language: str, detection: TurnDetection | None
) -> LiveOptions:
    strategy = query.get("strategy", "") or Strategy.VERIFY
    if strategy not in list(Strategy):
        raise BadRequest(f"strategy is one of: {', '.join(Strategy)}.", param="strategy")
    step_seconds = settings.ws_buffer_bytes / BYTES_PER_SECOND
    if strategy == Strategy.ROLLBACK:
        step_seconds = number(query, "chunk_size_sec", 2.0, 0.1, 30)
    return LiveOptions(
        language=language_named(language),
        languages=(),
        prompt="",
        keywords=(),
        turn_detection=detection,
        wants_partials=True,
        wants_logprobs=False,
        strategy=Strategy(strategy),
        step_seconds=step_seconds,
        unfixed_steps=whole(query, "unfixed_chunk_num", 2, 0, 1000),
        unfixed_tokens=whole(query, "unfixed_token_num", 5, 0, 1000),
        max_new_tokens=whole(query, "max_new_tokens", 32, 1, 1000),
    )

"""A realtime session's configuration: what it asks of the model, and how clients read it. Pure.

They do in two shapes: nested (`audio.input...`), and flat as in OpenAI's beta.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.languages import parse_language
from protocol.live import Encoding, LiveOptions, StreamFormat, TurnDetection

PCM_RATE = 24_000
"""OpenAI's only one, and the default."""
G711_RATE = 8_000
LOGPROBS = "item.input_audio_transcription.logprobs"
NESTED_FORMATS = {
    "audio/pcm": Encoding.PCM16,
    "audio/pcmu": Encoding.MULAW,
    "audio/pcma": Encoding.ALAW,
}
FLAT_FORMATS = {
    "pcm16": Encoding.PCM16,
    "g711_ulaw": Encoding.MULAW,
    "g711_alaw": Encoding.ALAW,
}
MODELS_WITHOUT_TURNS = ("gpt-live-transcribe", "gpt-realtime-whisper")
"""Of OpenAI's: they end no turns, so who names one commits, and takes a commit that comes just
behind one of ours for a fault (LiveKit 1.8.9 ends its stream)."""
SEMANTIC_SILENCE_MS = {"low": 2000, "medium": 1000, "high": 500, "auto": 1000}
"""A quarter of the longest silence that OpenAI's semantic_vad waits out: 8, 4 and 2 s."""
STEP_SECONDS = {"minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0}
"""delay -> audio between two texts."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """How a client wants its speech written."""

    model: str
    """As the client named it: there is one model."""
    language: str | None = None
    """As the client wrote it."""
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    prompt: str = ""
    delay: str | None = None


@dataclass(frozen=True, slots=True)
class ServerVad:
    """Turns end with silence."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500


@dataclass(frozen=True, slots=True)
class SemanticVad:
    """Turns end with silence, as long as eagerness says."""

    eagerness: str = "auto"


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The effective configuration of one session."""

    transcription: Transcription | None
    encoding: Encoding = Encoding.PCM16
    sample_rate: int = PCM_RATE
    turn_detection: ServerVad | SemanticVad | None = ServerVad()
    is_detection_chosen: bool = False
    """By the client; else it goes by the model's name."""
    noise_reduction: Mapping[str, object] | None = None
    """Without effect."""
    include: tuple[str, ...] | None = None

    @property
    def model(self) -> str:
        """The name the client knows the model by."""
        return self.transcription.model if self.transcription else ""

    @property
    def tells_text_whole(self) -> bool:
        """Whether the text comes as one delta when the item is done, as with whisper-1."""
        return self.model.startswith("whisper") or self.tells_speakers

    @property
    def tells_speakers(self) -> bool:
        """Whether segments with their speakers are told."""
        return "diarize" in self.model

    @property
    def wants_logprobs(self) -> bool:
        """Whether the client asked for them."""
        return LOGPROBS in (self.include or ())


def usual_detection(model: str) -> ServerVad | None:
    """Of a client that named this model, and has not said how turns end."""
    return None if model in MODELS_WITHOUT_TURNS else ServerVad()


def usual_session(model: str) -> SessionConfig:
    """Of a client that has said nothing but this name."""
    return SessionConfig(Transcription(model), turn_detection=usual_detection(model))


def options_of(config: SessionConfig, *, ignored_languages: tuple[str, ...] = ()) -> LiveOptions:
    """What is asked of the model. `ignored_languages`: English names of those to detect all the
    same where a client names one."""
    wishes = config.transcription or Transcription("")
    candidates = tuple(
        dict.fromkeys(name for text in wishes.languages if (name := parse_language(text)))
    )
    language = parse_language(wishes.language or "")
    if language in ignored_languages:
        language = None
    elif language is None and len(candidates) == 1:
        language = candidates[0]
    return LiveOptions(
        language=language,
        languages=candidates if language is None else (),
        prompt=wishes.prompt,
        keywords=wishes.keywords,
        turn_detection=_detection(config.turn_detection),
        wants_partials=not config.tells_text_whole,
        wants_logprobs=config.wants_logprobs,
        step_seconds=STEP_SECONDS[wishes.delay or "low"],
    )


def format_of(config: SessionConfig, channels: int) -> StreamFormat:
    """What the audio's bytes mean."""
    return StreamFormat(config.encoding, config.sample_rate, channels)


def nested(config: SessionConfig, session_id: str) -> dict[str, object]:
    """The whole effective session. It does not expire."""
    return {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": session_id,
        "expires_at": None,
        "audio": {
            "input": {
                "format": _nested_format(config),
                "transcription": _told_transcription(config.transcription),
                "noise_reduction": config.noise_reduction,
                "turn_detection": _told_detection(config.turn_detection),
            }
        },
        "include": None if config.include is None else list(config.include),
    }


def flat(config: SessionConfig, session_id: str) -> dict[str, object]:
    """The same in the beta's shape."""
    formats = {encoding: name for name, encoding in FLAT_FORMATS.items()}
    return {
        "object": "realtime.transcription_session",
        "id": session_id,
        "expires_at": None,
        "input_audio_format": formats[config.encoding],
        "input_audio_transcription": _told_transcription(config.transcription),
        "input_audio_noise_reduction": config.noise_reduction,
        "turn_detection": _told_detection(config.turn_detection),
        "include": None if config.include is None else list(config.include),
    }


def _nested_format(config: SessionConfig) -> dict[str, object]:
    if config.encoding is Encoding.PCM16:
        return {"type": "audio/pcm", "rate": config.sample_rate}
    names = {encoding: name for name, encoding in NESTED_FORMATS.items()}
    return {"type": names[config.encoding]}


def _told_transcription(wishes: Transcription | None) -> dict[str, object] | None:
    if wishes is None:
        return None
    more: dict[str, object] = {}
    if wishes.languages:
        more["languages"] = list(wishes.languages)
    if wishes.keywords:
        more["keywords"] = list(wishes.keywords)
    if wishes.delay:
        more["delay"] = wishes.delay
    return {
        "model": wishes.model,
        "language": wishes.language,
        "prompt": wishes.prompt,
        **more,
    }


def _told_detection(detection: ServerVad | SemanticVad | None) -> dict[str, object] | None:
    if isinstance(detection, SemanticVad):
        return {"type": "semantic_vad", "eagerness": detection.eagerness}
    if detection is None:
        return None
    return {
        "type": "server_vad",
        "threshold": detection.threshold,
        "prefix_padding_ms": detection.prefix_padding_ms,
        "silence_duration_ms": detection.silence_duration_ms,
    }


def _detection(wish: ServerVad | SemanticVad | None) -> TurnDetection | None:
    if isinstance(wish, SemanticVad):
        wish = ServerVad(silence_duration_ms=SEMANTIC_SILENCE_MS[wish.eagerness])
    if wish is None:
        return None
    return TurnDetection(wish.threshold, wish.prefix_padding_ms, wish.silence_duration_ms)

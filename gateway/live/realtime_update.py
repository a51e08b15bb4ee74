"""What clients set of a realtime session, deep-merged into its configuration. Pure.

They write it nested (`audio.input...`), or flat as in OpenAI's beta; either is taken anywhere.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.live import realtime_values as values
from gateway.live.query import LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE
from gateway.live.realtime_session import (
    FLAT_FORMATS,
    G711_RATE,
    LOGPROBS,
    NESTED_FORMATS,
    PCM_RATE,
    SEMANTIC_SILENCE_MS,
    STEP_SECONDS,
    SemanticVad,
    ServerVad,
    SessionConfig,
    Transcription,
    usual_detection,
)
from protocol.limits import LIVE_RATE_STEP
from protocol.live import Encoding

FLAT_NAMES = {
    "format": "input_audio_format",
    "transcription": "input_audio_transcription",
    "turn_detection": "turn_detection",
    "noise_reduction": "input_audio_noise_reduction",
}
"""Nested name -> flat name."""
NOISE_REDUCTIONS = ("near_field", "far_field")


def updated(config: SessionConfig, session: object, *, default_model: str) -> SessionConfig:
    """The configuration after a client's update. What it leaves out stays. Raises BadValue."""
    wishes = values.mapping(session, "session")
    parts = _parts(wishes)
    if "format" in parts:
        config = _with_format(config, *parts["format"])
    if "transcription" in parts:
        value, param = parts["transcription"]
        known = config.transcription or Transcription(default_model)
        merged = None if value is None else _transcription(known, value, param, default_model)
        config = replace(config, transcription=merged)
    if "turn_detection" in parts:
        value, param = parts["turn_detection"]
        detection = None if value is None else _turn_detection(config.turn_detection, value, param)
        config = replace(config, turn_detection=detection, is_detection_chosen=True)
    elif "transcription" in parts and not config.is_detection_chosen:
        config = replace(config, turn_detection=usual_detection(config.model))
    if "noise_reduction" in parts:
        config = replace(config, noise_reduction=_noise_reduction(parts["noise_reduction"][0]))
    if "include" in wishes:
        config = replace(config, include=_include(wishes["include"]))
    return config


def _parts(session: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What is given, in either shape, by its nested name: value, and what the client calls it."""
    audio = values.mapping(session.get("audio") or {}, "session.audio")
    wishes = values.mapping(audio.get("input") or {}, "session.audio.input")
    parts = {
        name: (session[flat_name], f"session.{flat_name}")
        for name, flat_name in FLAT_NAMES.items()
        if flat_name in session
    }
    parts |= {
        name: (wishes[name], f"session.audio.input.{name}") for name in FLAT_NAMES if name in wishes
    }
    return parts


def _with_format(config: SessionConfig, value: object, param: str) -> SessionConfig:
    if value is None:
        return replace(config, encoding=Encoding.PCM16, sample_rate=PCM_RATE)
    if isinstance(value, str):
        name = values.choice(value, param, (*FLAT_FORMATS, *NESTED_FORMATS))
        encoding = {**FLAT_FORMATS, **NESTED_FORMATS}[name]
        return replace(config, encoding=encoding, sample_rate=_default_rate(encoding))
    wishes = values.mapping(value, param)
    kind = wishes.get("type")
    encoding = config.encoding
    if kind is not None:
        encoding = NESTED_FORMATS[values.choice(kind, f"{param}.type", tuple(NESTED_FORMATS))]
    if encoding is not Encoding.PCM16:
        return replace(config, encoding=encoding, sample_rate=G711_RATE)
    rate = values.whole(
        wishes.get("rate"), f"{param}.rate", PCM_RATE, LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE
    )
    if rate % LIVE_RATE_STEP:
        raise values.BadValue(
            f"{param}.rate", f"{param}.rate must be a multiple of {LIVE_RATE_STEP}."
        )
    return replace(config, encoding=encoding, sample_rate=rate)


def _default_rate(encoding: Encoding) -> int:
    return PCM_RATE if encoding is Encoding.PCM16 else G711_RATE


def _transcription(
    known: Transcription, value: object, param: str, default_model: str
) -> Transcription:
    wishes = values.mapping(value, param)
    changes: dict[str, Any] = {}
    if "model" in wishes:
        changes["model"] = values.name(wishes["model"], f"{param}.model", default_model)
    if "language" in wishes:
        changes["language"] = values.language(wishes["language"], f"{param}.language")
    if "languages" in wishes:
        listed = values.texts(wishes["languages"], f"{param}.languages")
        changes["languages"] = tuple(
            language for text in listed if (language := values.language(text, f"{param}.languages"))
        )
    if "keywords" in wishes:
        words = values.texts(wishes["keywords"], f"{param}.keywords")
        changes["keywords"] = tuple(word.strip() for word in words if word.strip())
    if "prompt" in wishes:
        changes["prompt"] = values.prompt(wishes["prompt"], f"{param}.prompt")
    if "delay" in wishes:  # one that is not known is none, as all options are that do no harm
        delay = wishes["delay"]
        changes["delay"] = delay if isinstance(delay, str) and delay in STEP_SECONDS else None
    return replace(known, **changes)


def _turn_detection(
    known: ServerVad | SemanticVad | None, value: object, param: str
) -> ServerVad | SemanticVad:
    wishes = values.mapping(value, param)
    kind = wishes.get("type") or (
        "semantic_vad" if isinstance(known, SemanticVad) else "server_vad"
    )
    if values.choice(kind, f"{param}.type", ("server_vad", "semantic_vad")) == "semantic_vad":
        stays = known.eagerness if isinstance(known, SemanticVad) else "auto"
        eagerness = wishes.get("eagerness", stays) or "auto"
        choices = tuple(SEMANTIC_SILENCE_MS)
        return SemanticVad(values.choice(eagerness, f"{param}.eagerness", choices))
    rules = known if isinstance(known, ServerVad) else ServerVad()
    if "threshold" in wishes:
        path = f"{param}.threshold"
        rules = replace(rules, threshold=values.number(wishes["threshold"], path, 0.5, 0, 1))
    if "prefix_padding_ms" in wishes:
        given, path = wishes["prefix_padding_ms"], f"{param}.prefix_padding_ms"
        rules = replace(rules, prefix_padding_ms=values.whole(given, path, 300, 0, 10_000))
    if "silence_duration_ms" in wishes:
        given, path = wishes["silence_duration_ms"], f"{param}.silence_duration_ms"
        rules = replace(rules, silence_duration_ms=values.whole(given, path, 500, 0, 60_000))
    return rules


def _noise_reduction(value: object) -> Mapping[str, object] | None:
    """Taken without effect, so nothing about it is refused."""
    if not isinstance(value, dict) or value.get("type") not in NOISE_REDUCTIONS:
        return None
    return {"type": value["type"]}


def _include(value: object) -> tuple[str, ...] | None:
    """Those that are known; others are asked for in vain, but not refused."""
    if not isinstance(value, list):
        return None
    return (LOGPROBS,) if LOGPROBS in value else ()

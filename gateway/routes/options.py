"""From form fields to what is asked of the model, checked before anything is woken. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import BadRequest
from gateway.multipart import Form
from protocol.languages import UnknownLanguage, parse_language

SUBTITLE_FORMATS = ("srt", "vtt", "ass", "lrc")
STREAMED_FORMATS = ("json", "text", "verbose_json", "diarized_json")
FORMATS = (*STREAMED_FORMATS, *SUBTITLE_FORMATS)
GRANULARITIES = ("word", "segment")
INCLUDED = ("logprobs", "progress")
CUE_FIELDS = {
    "max_line_chars": "max_line_chars",
    "max_lines": "max_lines",
    "min_cue_seconds": "min_duration",
    "max_cue_seconds": "max_duration",
    "max_chars_per_second": "reading_speed",
}
"""Form field -> rule of gateway.formats.cue_rules."""
WHOLE_NUMBERS = ("max_line_chars", "max_lines")
MAX_AUDIO_TRACK = 99
MAX_PROMPT_BYTES = 8 * 1024
MAX_KEYWORDS = 256
TRUE_WORDS = ("true", "1", "yes", "on")
FALSE_WORDS = ("false", "0", "no", "off", "")


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """One request's wishes."""

    response_format: str = "json"
    language: str | None = None
    """English name; None detects it."""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    temperature: float = 0.0
    languages: tuple[str, ...] = ()
    """English names of several candidates; empty where there are none or one is decided on."""
    is_streamed: bool = False
    granularities: tuple[str, ...] = ("segment",)
    """Of verbose_json."""
    wants_logprobs: bool = False
    """In the answer."""
    wants_progress: bool = False
    """Among the events of a stream."""
    uses_previous_context: bool = False
    audio_track: int | None = None
    has_word_times: bool = False
    """Words light up in ASS, and carry their times in VTT."""
    cue_rules: Mapping[str, float] = field(default_factory=dict)
    """Arguments of gateway.formats.cue_rules.rules_for."""


def parse_options(form: Form) -> TranscriptionOptions:
    """Raises BadRequest naming the field at fault. Unknown fields are ignored; many are sent."""
    response_format = _response_format(form)
    candidates = _candidates(form)
    language = _language(form, candidates)
    _check_speakers(form)
    included = _choices(form, "include", INCLUDED)
    return TranscriptionOptions(
        response_format=response_format,
        language=language,
        prompt=_prompt(form),
        keywords=_keywords(form),
        temperature=_temperature(form),
        languages=candidates if language is None else (),
        is_streamed=_is_streamed(form, response_format),
        granularities=_choices(form, "timestamp_granularities", GRANULARITIES) or ("segment",),
        wants_logprobs="logprobs" in included,
        wants_progress="progress" in included,
        uses_previous_context=_is_true(form, "use_previous_context"),
        audio_track=_audio_track(form),
        has_word_times=_is_true(form, "word_times"),
        cue_rules=_cue_rules(form),
    )


def _is_true(form: Form, name: str) -> bool:
    wish = form.choice(name).lower()
    if wish not in (*TRUE_WORDS, *FALSE_WORDS):
        raise BadRequest(f"{name} is true or false.", param=name)
    return wish in TRUE_WORDS


def _is_streamed(form: Form, response_format: str) -> bool:
    if not _is_true(form, "stream"):
        return False
    if response_format not in STREAMED_FORMATS:
        raise BadRequest(
            f"{response_format} cannot be streamed. Leave stream out, or ask for one of: "
            f"{', '.join(STREAMED_FORMATS)}.",
            param="response_format",
            code="unsupported_value",
        )
    return True


def _choices(form: Form, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(word.lower() for word in form.choices(name))
    if any(word not in known for word in chosen):
        raise BadRequest(f"{name}[] takes {' and '.join(known)}.", param=name)
    return chosen


def _check_speakers(form: Form) -> None:
    """Speakers are told apart by channel: names and voices have no effect, but must be a pair."""
    names = form.texts("known_speaker_names")
    if len(names) != len(form.texts("known_speaker_references")):
        raise BadRequest(
            "known_speaker_names[] and known_speaker_references[] go together, one each a speaker.",
            param="known_speaker_names",
        )


def _response_format(form: Form) -> str:
    wish = form.choice("response_format").lower() or "json"
    if wish not in FORMATS:
        raise BadRequest(
            f"This response_format is not known here. Use one of: {', '.join(FORMATS)}.",
            param="response_format",
            code="unsupported_value",
        )
    return wish


def _candidates(form: Form) -> tuple[str, ...]:
    """English names; none where one of them leaves it open."""
    candidates = [_parsed_language(text, "languages") for text in form.choices("languages")]
    return () if None in candidates else tuple(dict.fromkeys(filter(None, candidates)))


def _language(form: Form, candidates: tuple[str, ...]) -> str | None:
    language = _parsed_language(form.choice("language"), "language")
    if language is None:
        return candidates[0] if len(candidates) == 1 else None
    if candidates and language not in candidates:
        raise BadRequest("language is not among languages[].", param="language")
    return language


def _parsed_language(text: str, param: str) -> str | None:
    try:
        return parse_language(text)
    except UnknownLanguage as error:
        raise BadRequest(str(error), param=param) from None


def _prompt(form: Form) -> str:
    prompt = form.text("prompt") or ""
    if len(prompt.encode("utf-8")) > MAX_PROMPT_BYTES:
        raise BadRequest(f"prompt holds at most {MAX_PROMPT_BYTES} bytes.", param="prompt")
    return prompt


def _keywords(form: Form) -> tuple[str, ...]:
    keywords = tuple(word for text in form.texts("keywords") if (word := text.strip()))
    if len(keywords) > MAX_KEYWORDS or len("".join(keywords).encode("utf-8")) > MAX_PROMPT_BYTES:
        raise BadRequest(
            f"keywords[] are at most {MAX_KEYWORDS}, of {MAX_PROMPT_BYTES} bytes together.",
            param="keywords",
        )
    return keywords


def _temperature(form: Form) -> float:
    text = form.choice("temperature") or "0"
    try:
        temperature = float(text)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature <= 1:  # NaN fails as well
        raise BadRequest("temperature is a number from 0 to 1.", param="temperature")
    return temperature


def _audio_track(form: Form) -> int | None:
    text = form.choice("audio_track")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_AUDIO_TRACK))):
        raise BadRequest(
            f"audio_track counts the recording's audio tracks from 0, up to {MAX_AUDIO_TRACK}.",
            param="audio_track",
        )
    return int(text)


def _cue_rules(form: Form) -> dict[str, float]:
    wishes = {
        rule: _positive(text, name)
        for name, rule in CUE_FIELDS.items()
        if (text := form.choice(name))
    }
    if wishes:
        _check_rules(wishes)
    return wishes


def _positive(text: str, name: str) -> float:
    try:
        number = int(text) if name in WHOLE_NUMBERS else float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
        raise BadRequest(f"{name} is {kind} above 0.", param=name)
    return number


def _check_rules(wishes: Mapping[str, float]) -> None:
    from gateway.formats.cue_rules import rules_for  # only requests for subtitles need it

    try:
        rules_for(None, **wishes)  # type: ignore[arg-type]  # max_lines and width are whole
    except ValueError as error:
        message, named = str(error), ""
        for name, rule in CUE_FIELDS.items():
            if rule in message:
                message, named = message.replace(rule, name), name
        raise BadRequest(f"{message}.", param=named or None) from None

"""From form fields to what is asked of the model, checked before anything is woken. Pure."""

import math
from dataclasses import dataclass

from gateway.errors import BadRequest
from gateway.multipart import Form
from protocol.languages import UnknownLanguage, parse_language

FORMATS = ("json", "text")
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


def parse_options(form: Form) -> TranscriptionOptions:
    """Raises BadRequest naming the field at fault. Unknown fields are ignored; many are sent."""
    _check_stream(form)
    _check_granularities(form)
    return TranscriptionOptions(
        response_format=_response_format(form),
        language=_language(form),
        prompt=_prompt(form),
        keywords=_keywords(form),
        temperature=_temperature(form),
    )


def _check_stream(form: Form) -> None:
    wish = (form.text("stream") or "").strip().lower()
    if wish in FALSE_WORDS:
        return
    if wish in TRUE_WORDS:
        raise BadRequest(
            "stream=true is not supported here: leave it out to get the whole transcript in one "
            "answer.",
            param="stream",
            code="unsupported_value",
        )
    raise BadRequest("stream is true or false.", param="stream")


def _check_granularities(form: Form) -> None:
    for granularity in form.texts("timestamp_granularities"):
        if granularity not in ("word", "segment"):
            raise BadRequest(
                "timestamp_granularities[] are word and segment.", param="timestamp_granularities"
            )


def _response_format(form: Form) -> str:
    wish = (form.text("response_format") or "json").strip().lower()
    if wish not in FORMATS:
        raise BadRequest(
            f"This response_format is not supported here. Use one of: {', '.join(FORMATS)}.",
            param="response_format",
            code="unsupported_value",
        )
    return wish


def _language(form: Form) -> str | None:
    language = _parsed_language(form.text("language") or "", "language")
    candidates = [_parsed_language(text, "languages") for text in form.texts("languages")]
    if language is None:
        # Several candidates are a hint that the model cannot take; a single one decides.
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
    text = (form.text("temperature") or "0").strip()
    try:
        temperature = float(text)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature <= 1:  # NaN fails as well
        raise BadRequest("temperature is a number from 0 to 1.", param="temperature")
    return temperature

"""The form fields of uploads: what each means, and its schema. Limits are those of the code."""

from dataclasses import dataclass, replace
from typing import Any

from gateway.formats.cue_rules import CueRules
from gateway.routes.models import ALIASES
from gateway.routes.options import (
    FORMATS,
    GRANULARITIES,
    INCLUDED,
    MAX_AUDIO_TRACK,
    MAX_KEYWORDS,
    MAX_PROMPT_BYTES,
    STREAMED_FORMATS,
)
from gateway.routes.translations import FORMATS as TRANSLATION_FORMATS
from gateway.routes.translations import TARGET

Schema = dict[str, Any]
USUAL = CueRules()
LANGUAGE_FORMS = "a code (`de`, `deu`, `de-AT`) or an English name (`German`)"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    """Lists end in []."""
    schema: Schema
    text: str
    is_ours: bool = False
    """Whether OpenAI's API lacks it."""

    def described(self) -> Schema:
        """The property of the form's schema."""
        mark = {"x-extension": True} if self.is_ours else {}
        return {**self.schema, "description": self.text, **mark}


def form_schema(fields: tuple[Field, ...]) -> Schema:
    """The schema of a whole form, whose first field is the recording."""
    return {
        "type": "object",
        "required": [fields[0].name],
        "properties": {field.name: field.described() for field in fields},
    }


def text(**more: object) -> Schema:
    """A string."""
    return {"type": "string", **more}


def flag() -> Schema:
    """A boolean that is off unless sent."""
    return {"type": "boolean", "default": False}


def texts(**item: object) -> Schema:
    """A list of strings."""
    return {"type": "array", "items": text(**item)}


FILE = Field(
    "file",
    text(format="binary", minLength=1),
    "The recording: WAV, FLAC, MP3, Ogg, Opus, M4A and MP4, Matroska and WebM, AVI, AAC, AC-3, "
    "AMR, AIFF, AU, CAF, ASF/WMA, MPEG, WavPack, at any sample rate, with any number of channels. "
    "It is recognised by its content; its name and content type do not matter. Of a film only the "
    "sound is read.",
)
MODEL = Field(
    "model",
    text(examples=[ALIASES[0]]),
    "Any name: there is one model, the served one. May be left out.",
)
LANGUAGE = Field(
    "language",
    text(examples=["de", "English"]),
    f"Language of the speech: {LANGUAGE_FORMS}. Left out, empty or `auto`: detected.",
)
LANGUAGES = Field(
    "languages[]",
    texts(examples=["en"]),
    "Candidates for the language. One decides; of several the model detects, and what it takes for "
    "another language it hears once more as the first of them.",
)
PROMPT = Field(
    "prompt",
    text(maxLength=MAX_PROMPT_BYTES),
    f"Text the model gets as context, at most {MAX_PROMPT_BYTES} bytes of UTF-8.",
)
KEYWORDS = Field(
    "keywords[]",
    {**texts(), "maxItems": MAX_KEYWORDS},
    f"Words to expect, at most {MAX_KEYWORDS}, of {MAX_PROMPT_BYTES} bytes together. They join "
    "the context.",
)
RESPONSE_FORMAT = Field(
    "response_format",
    text(enum=list(FORMATS), default="json"),
    "What the answer looks like. Every format goes with every model name; `ass` and `lrc` go "
    "beyond OpenAI's.",
)
GRANULARITY = Field(
    "timestamp_granularities[]",
    {**texts(enum=list(GRANULARITIES)), "default": ["segment"]},
    "What `verbose_json` lists. Without effect on other formats.",
)
INCLUDE = Field(
    "include[]",
    texts(enum=list(INCLUDED)),
    "`logprobs`: the probability of each token, with `json`, streamed or not. `progress`, an "
    "extension of ours: with `stream=true` events tell how far the work is. Without effect "
    "elsewhere.",
)
TEMPERATURE = Field(
    "temperature",
    {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    "0 always takes the likeliest token.",
)
STREAM = Field(
    "stream",
    flag(),
    "`true`: the text as server-sent events while it is heard, with "
    f"{', '.join(f'`{name}`' for name in STREAMED_FORMATS)}.",
)
WITHOUT_EFFECT = (
    Field(
        "chunking_strategy",
        {"examples": ["auto"]},
        "Taken in every form, without effect: recordings are always cut at pauses.",
    ),
    Field(
        "known_speaker_names[]",
        texts(),
        "Taken, without effect: speakers are told apart by channel. One reference a name.",
    ),
    Field(
        "known_speaker_references[]",
        texts(),
        "Taken, without effect. One name a reference.",
    ),
)
HEARING = (
    Field(
        "use_previous_context",
        flag(),
        "`true`: the end of each chunk's text is context for the next. Names stay alike, but so "
        "may mistakes.",
        is_ours=True,
    ),
    Field(
        "audio_track",
        {"type": "integer", "minimum": 0, "maximum": MAX_AUDIO_TRACK},
        "Which audio track of a film, counted from 0; left out: its default one.",
        is_ours=True,
    ),
)
CUES = (
    Field(
        "max_line_chars",
        {"type": "integer", "minimum": 8, "maximum": 250},
        "Width of a subtitle line, in columns, of which a Chinese, Japanese or Korean character "
        f"takes two. {USUAL.max_line_chars}; for Chinese and Korean 32, for Japanese 26.",
        is_ours=True,
    ),
    Field(
        "max_lines",
        {"type": "integer", "minimum": 1, "maximum": 3, "default": USUAL.max_lines},
        "Lines of a subtitle.",
        is_ours=True,
    ),
    Field(
        "min_cue_seconds",
        {"type": "number", "minimum": 0.1, "maximum": 10, "default": USUAL.min_duration},
        "How long a subtitle is on screen at least, where the next one leaves the time.",
        is_ours=True,
    ),
    Field(
        "max_cue_seconds",
        {"type": "number", "minimum": 0.5, "maximum": 60, "default": 7},
        "How long a subtitle is on screen at most; not below `min_cue_seconds`.",
        is_ours=True,
    ),
    Field(
        "max_chars_per_second",
        {"type": "number", "minimum": 1, "maximum": 1000},
        f"How fast a subtitle has to be read, in columns. {USUAL.reading_speed:g}; for English 20, "
        "Chinese 18, Japanese 14, Korean 24.",
        is_ours=True,
    ),
)
WORD_TIMES = Field(
    "word_times",
    flag(),
    "`true`: words of `vtt` carry their times, words of `ass` light up one after another.",
    is_ours=True,
)

TRANSCRIPTION = (
    *(FILE, MODEL, LANGUAGE, LANGUAGES, PROMPT, KEYWORDS, RESPONSE_FORMAT, GRANULARITY, INCLUDE),
    *(TEMPERATURE, STREAM, *WITHOUT_EFFECT, *HEARING, *CUES, WORD_TIMES),
)
TRANSLATION = (
    FILE,
    MODEL,
    Field(
        "target_language",
        text(examples=["de"], default=TARGET),
        f"Language to translate into: {LANGUAGE_FORMS} of one that is transcribed.",
        is_ours=True,
    ),
    replace(
        LANGUAGE,
        text="Without `target_language`: the language to translate into. With it: the language of "
        "the speech.",
    ),
    *(LANGUAGES, PROMPT, KEYWORDS),
    replace(
        RESPONSE_FORMAT,
        schema=text(enum=list(TRANSLATION_FORMATS), default="json"),
        text="What the answer looks like.",
    ),
    *(GRANULARITY, replace(INCLUDE, text="Taken, without effect."), TEMPERATURE),
    Field(
        "stream",
        {"type": "boolean", "default": False, "enum": [False]},
        "`false`, or left out: translations cannot be streamed.",
    ),
    *(*WITHOUT_EFFECT, *HEARING, *CUES, replace(WORD_TIMES, text="Taken, without effect.")),
)

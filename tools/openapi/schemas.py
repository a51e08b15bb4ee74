"""What answers hold: the schemas of transcripts, events, models and health."""

from typing import Any

from gateway.version import VERSION
from protocol.control import EngineState
from protocol.languages import NAMES
from tools.openapi.errors import ERROR

Schema = dict[str, Any]
STATES = [str(state) for state in EngineState]


def record(text: str, required: str, properties: Schema, **more: object) -> Schema:
    """An object; `required` names its fields that are always there."""
    return {
        "type": "object",
        "description": text,
        "required": required.split(),
        "properties": properties,
        **more,
    }


def of(kind: str, text: str, **more: object) -> Schema:
    """A described value of one of JSON's types."""
    return {"type": kind, "description": text, **more}


def to(name: str) -> Schema:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(name: str, text: str) -> Schema:
    """A list of one of SCHEMAS."""
    return {"type": "array", "description": text, "items": to(name)}


def either(*names: str) -> Schema:
    """One of several of SCHEMAS."""
    return {"anyOf": [to(name) for name in names]}


def constant(value: str) -> Schema:
    """A string that is always the same."""
    return {"type": "string", "const": value}


SECONDS: Schema = {"type": "number", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT = of("string", "The whole text.")
DURATION = {**SECONDS, "description": "The recording's length in seconds."}
LANGUAGE = of(
    "string",
    "English name of the language most of the speech is in; where nothing was heard, the one that "
    "was asked for, or empty.",
    enum=[*NAMES, ""],
)
LOWER_LANGUAGE = {**LANGUAGE, "enum": [*(name.lower() for name in NAMES), ""]}
HEARD = listed("Language", "All languages that were heard, in order.")
TIMES = {
    "start": {**SECONDS, "description": "Seconds from the recording's start."},
    "end": {**SECONDS, "description": "Seconds from the recording's start."},
}

TOKEN_USAGE_EXAMPLE = {
    "type": "tokens",
    "input_tokens": 70,
    "input_token_details": {"text_tokens": 15, "audio_tokens": 55},
    "output_tokens": 9,
    "total_tokens": 79,
}
PARTS: Schema = {
    "Language": record(
        "A language by its code: ISO 639-1, or 639-3 where there is none.",
        "code",
        {"code": {"type": "string"}},
        examples=[{"code": "en"}],
    ),
    "TokenUsage": record(
        "What was spent, in tokens.",
        "type input_tokens input_token_details output_tokens total_tokens",
        {
            "type": constant("tokens"),
            "input_tokens": COUNT,
            "input_token_details": record(
                "What the input was.",
                "text_tokens audio_tokens",
                {"text_tokens": COUNT, "audio_tokens": COUNT},
            ),
            "output_tokens": COUNT,
            "total_tokens": COUNT,
        },
        examples=[TOKEN_USAGE_EXAMPLE],
    ),
    "DurationUsage": record(
        "What was spent, in whole seconds begun.",
        "type seconds",
        {"type": constant("duration"), "seconds": COUNT},
        examples=[{"type": "duration", "seconds": 3}],
    ),
    "TokenLogprob": record(
        "A token of the text; the bytes of all tokens together are the text.",
        "token logprob bytes",
        {
            "token": {"type": "string"},
            "logprob": of("number", "Natural logarithm of its probability."),
            "bytes": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 255},
            },
        },
    ),
    "Word": record(
        "A word and its time.",
        "word start end",
        {
            "word": {"type": "string"},
            **TIMES,
            "estimated": of(
                "boolean",
                "There, and `true`, where the times are spread over the speech around the word "
                "instead of measured.",
                const=True,
            ),
        },
    ),
    "Segment": record(
        "A stretch of the transcript. The texts, which begin with the space between them, are "
        "together the whole text.",
        "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob",
        {
            "id": COUNT,
            "seek": of("integer", "Always 0.", const=0),
            **TIMES,
            "text": {"type": "string"},
            "tokens": {"type": "array", "items": COUNT},
            "temperature": {"type": "number"},
            "avg_logprob": of("number", "0 where it is not known."),
            "compression_ratio": of("number", "High where the text repeats itself."),
            "no_speech_prob": of("number", "Of voice activity detection.", minimum=0, maximum=1),
        },
    ),
    "PlainSegment": record(
        "A stretch of the transcript, for subtitle programs.",
        "id start end text",
        {"id": COUNT, **TIMES, "text": {"type": "string"}},
    ),
    "SpokenSegment": record(
        "What one speaker said; also an event of streams of `diarized_json`.",
        "type id start end text speaker",
        {
            "type": constant("transcript.text.segment"),
            "id": {"type": "string", "pattern": "^seg_[0-9]{3,}$"},
            **TIMES,
            "text": {"type": "string"},
            "speaker": of("string", "`A` or `B`, by who speaks first.", pattern="^[A-Z]$"),
        },
    ),
}
TRANSCRIPTS: Schema = {
    "Transcript": record(
        "The format `json`.",
        "text language languages usage",
        {
            "text": TEXT,
            "language": LANGUAGE,
            "languages": HEARD,
            "logprobs": listed("TokenLogprob", "With `include[]=logprobs`."),
            "usage": to("TokenUsage"),
        },
        examples=[
            {
                "text": "zero one two three four five",
                "language": "English",
                "languages": [{"code": "en"}],
                "usage": TOKEN_USAGE_EXAMPLE,
            }
        ],
    ),
    "VerboseTranscript": record(
        "The format `verbose_json`.",
        "task language languages duration text usage",
        {
            "task": constant("transcribe"),
            "language": LOWER_LANGUAGE,
            "languages": HEARD,
            "duration": DURATION,
            "text": TEXT,
            "segments": listed("Segment", "Unless only words were asked for."),
            "words": listed("Word", "With `timestamp_granularities[]=word`."),
            "usage": to("DurationUsage"),
        },
        examples=[
            {
                "task": "transcribe",
                "language": "english",
                "languages": [{"code": "en"}],
                "duration": 1.9,
                "text": "zero one",
                "segments": [
                    {
                        "id": 0,
                        "seek": 0,
                        "start": 0.1,
                        "end": 1.8,
                        "text": "zero one",
                        "tokens": [10, 11],
                        "temperature": 0.0,
                        "avg_logprob": -0.02,
                        "compression_ratio": 0.5,
                        "no_speech_prob": 0.01,
                    }
                ],
                "words": [
                    {"word": "zero", "start": 0.1, "end": 0.9, "estimated": True},
                    {"word": "one", "start": 1.0, "end": 1.8, "estimated": True},
                ],
                "usage": {"type": "duration", "seconds": 2},
            }
        ],
    ),
    "DiarizedTranscript": record(
        "The format `diarized_json`: speakers are told apart by channel of a stereo recording.",
        "task duration text languages segments usage",
        {
            "task": constant("transcribe"),
            "duration": DURATION,
            "text": of("string", "A line for each turn: `A: Hello.`"),
            "languages": HEARD,
            "segments": listed("SpokenSegment", "By their start."),
            "usage": to("DurationUsage"),
        },
    ),
    "Translation": record(
        "The format `json` of a translation.",
        "text language usage",
        {
            "text": TEXT,
            "language": of("string", "English name of the target.", enum=list(NAMES)),
            "usage": to("TokenUsage"),
        },
        examples=[{"text": "Hello.", "language": "English", "usage": TOKEN_USAGE_EXAMPLE}],
    ),
    "VerboseTranslation": record(
        "The format `verbose_json` of a translation.",
        "task language duration text segments usage",
        {
            "task": constant("translate"),
            "language": {**LOWER_LANGUAGE, "description": "The target, in lower case."},
            "duration": DURATION,
            "text": TEXT,
            "segments": listed("Segment", "Without tokens."),
            "usage": to("DurationUsage"),
        },
    ),
}
EVENTS: Schema = {
    "DeltaEvent": record(
        "Text that has settled. Deltas are never taken back: together they are the text of the "
        "last event.",
        "type delta",
        {
            "type": constant("transcript.text.delta"),
            "delta": {"type": "string"},
            "logprobs": listed("TokenLogprob", "With `include[]=logprobs`."),
            "segment_id": of("string", "With `diarized_json`: the segment that follows."),
        },
        examples=[{"type": "transcript.text.delta", "delta": "zero one"}],
    ),
    "DoneEvent": record(
        "The last event: the whole text again, and what is known besides.",
        "type text languages duration usage",
        {
            "type": constant("transcript.text.done"),
            "text": TEXT,
            "language": {**LANGUAGE, "description": "As in Transcript; not with `diarized_json`."},
            "languages": HEARD,
            "duration": DURATION,
            "segments": {
                "type": "array",
                "description": "By format; not where `verbose_json` was asked for words alone.",
                "items": either("Segment", "PlainSegment", "SpokenSegment"),
            },
            "words": listed("Word", "With `verbose_json` and `timestamp_granularities[]=word`."),
            "logprobs": listed("TokenLogprob", "With `include[]=logprobs`."),
            "usage": to("TokenUsage"),
        },
    ),
    "ProgressEvent": record(
        "With `include[]=progress`: how far the work is, at most once a second, and once more "
        "before the last event. The numbers only grow.",
        "type percent done_seconds total_seconds",
        {
            "type": constant("transcript.progress"),
            "percent": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 100,
                "description": "Null where the length is not known; 100 at the end alone.",
            },
            "done_seconds": of("number", "How much of the recording is transcribed."),
            "total_seconds": {
                "type": ["number", "null"],
                "description": "The recording's length, where its container tells.",
            },
        },
        examples=[
            {
                "type": "transcript.progress",
                "percent": 42,
                "done_seconds": 25.2,
                "total_seconds": 60.0,
            }
        ],
    ),
    "ErrorEvent": {
        "description": "Ends a stream whose work failed; its line `event:` says `error`.",
        "allOf": [
            to("Error"),
            {
                "type": "object",
                "required": ["type"],
                "properties": {"type": constant("error")},
            },
        ],
    },
}
MODELS: Schema = {
    "Model": record(
        "The served model, under its own name or one that clients have built in.",
        "id object created owned_by root",
        {
            "id": {"type": "string"},
            "object": constant("model"),
            "created": of("integer", "Unix time of the server's start."),
            "owned_by": {"type": "string"},
            "root": of("string", "What is served under this name."),
            "description": of("string", "What callers must know of it, where there is something."),
        },
        examples=[
            {
                "id": "whisper-1",
                "object": "model",
                "created": 1790000000,
                "owned_by": "Qwen",
                "root": "Qwen/Qwen3-ASR-1.7B",
            }
        ],
    ),
    "ModelList": record(
        "The served model alone.",
        "object data",
        {"object": constant("list"), "data": listed("Model", "One model.")},
    ),
}
NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
HEALTH: Schema = {
    "Live": record("The server answers.", "status", {"status": constant("ok")}),
    "Ready": record(
        "A request sent now would be served.",
        "status worker",
        {"status": constant("ok"), "worker": to("State")},
        examples=[{"status": "ok", "worker": "stopped"}],
    ),
    "Unready": record(
        "A request sent now would not be served.",
        "status reason worker",
        {
            "status": constant("unavailable"),
            "reason": {"type": "string"},
            "worker": to("State"),
        },
        examples=[
            {"status": "unavailable", "reason": "no worker is connected", "worker": "absent"}
        ],
    ),
    "Status": record(
        "The server answers, and its version.",
        "status version",
        {"status": constant("ok"), "version": {"type": "string"}},
        examples=[{"status": "ok", "version": VERSION}],
    ),
    "State": of(
        "string",
        "One word for all workers; `absent` where none is connected.",
        enum=[*STATES, "absent"],
    ),
    "Health": record(
        "How the server is doing, with the fields that clients of jaaacki/qwen3-asr read.",
        "status mode worker_alive model_loaded model_id cuda gpu_name gpu_allocated_mb "
        "gpu_reserved_mb version ready reason queue workers",
        {
            "status": of("string", "Always `ok`: the server answers.", const="ok"),
            "mode": constant("gateway"),
            "worker_alive": of("boolean", "Whether a model is loaded or being loaded."),
            "model_loaded": {"type": "boolean"},
            "model_id": {"type": "string"},
            "cuda": of("null", "Not known to the gateway."),
            "gpu_name": of("null", "Not known to the gateway."),
            "gpu_allocated_mb": of("null", "Not known to the gateway."),
            "gpu_reserved_mb": of("null", "Not known to the gateway."),
            "version": {"type": "string"},
            "ready": of("boolean", "Whether a request sent now would be served."),
            "reason": {**NULLABLE_TEXT, "description": "Why it would not be, else null."},
            "queue": {**COUNT, "description": "Requests that wait."},
            "live_sessions": {**COUNT, "description": "Live sessions that are open."},
            "live_totals": {
                "type": "object",
                "description": "Since the start; all but replays of sessions that have ended.",
                "properties": {
                    "sessions": COUNT,
                    "replays": {
                        **COUNT,
                        "description": "Sessions handed to another engine, as theirs was lost.",
                    },
                    "utterances": COUNT,
                    "contradictions": {
                        **COUNT,
                        "description": "Texts that did not begin with the deltas told before.",
                    },
                    "partials_dropped": {
                        **COUNT,
                        "description": "Messages for which clients read too slowly.",
                    },
                },
            },
            "workers": listed("Worker", "Those that are connected."),
        },
    ),
    "Worker": record(
        "One worker.",
        "id state stage done_bytes total_bytes last_error resident_bytes running_requests",
        {
            "id": {"type": "string"},
            "state": {"type": "string", "enum": STATES},
            "stage": {**NULLABLE_TEXT, "description": "What it does while it starts."},
            "done_bytes": of("integer", "Of what the stage reads or fetches."),
            "total_bytes": {"type": ["integer", "null"]},
            "last_error": {**NULLABLE_TEXT, "description": "Why its engine failed last."},
            "resident_bytes": {"type": ["integer", "null"]},
            "running_requests": COUNT,
        },
    ),
}
OTHER_FRONTS: Schema = {
    "DetectedLanguage": {
        "type": "object",
        "description": "The language most of the speech is in; empty where none was heard.",
        "properties": {
            "detected_language": of(
                "string",
                "English name in lower case.",
                enum=[name.lower() for name in NAMES],
            ),
            "language_code": {"type": "string"},
            "confidence": of("number", "Share of the speech heard in it.", minimum=0, maximum=1),
        },
        "examples": [{"detected_language": "english", "language_code": "en", "confidence": 0.98}],
    },
    "ChunkEvent": record(
        "An event of jaaacki/qwen3-asr's stream: the text of a chunk.",
        "text language is_final",
        {
            "text": {"type": "string"},
            "language": of("string", "English name."),
            "is_final": of("boolean", "Whether it is the last chunk."),
            "chunk_index": {
                **COUNT,
                "description": "Not where the whole recording lasts 5 s or less.",
            },
        },
    ),
    "StreamEnd": record(
        "The last event of that stream.", "done", {"done": of("boolean", "Always.", const=True)}
    ),
    "StreamError": record(
        "The event that ends that stream where its work failed.",
        "code message statusCode",
        {
            "code": constant("SSE_STREAM_ERROR"),
            "message": {"type": "string"},
            "statusCode": {"type": "integer", "const": 500},
        },
    ),
    "FlatError": record(
        "A failure as jaaacki/qwen3-asr writes it.",
        "code message statusCode context",
        {
            "code": {"type": "string"},
            "message": of("string", "Says what to do."),
            "statusCode": of("integer", "That of the answer."),
            "context": record("Where to look.", "requestId", {"requestId": {"type": "string"}}),
            "detail": of("array", "Where the recording is missing, as FastAPI says it.", items={}),
        },
        examples=[
            {
                "code": "EMPTY_AUDIO",
                "message": "The part `file` is empty: send a recording.",
                "statusCode": 400,
                "context": {"requestId": "req_1"},
            }
        ],
    ),
}
SCHEMAS: Schema = {
    **TRANSCRIPTS,
    **EVENTS,
    **PARTS,
    **OTHER_FRONTS,
    **MODELS,
    **HEALTH,
    "Error": ERROR,
}

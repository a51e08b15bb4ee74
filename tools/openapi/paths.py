"""Every path: its operations, their parameters and answers."""

from gateway.routes.health import LIVE_PATHS, READY_PATHS
from gateway.routes.models import ALIASES
from tools.openapi import calls, other_fronts, realtime
from tools.openapi.errors import FOR_ALL, FOR_TRANSLATIONS, FOR_UPLOADS, error_answers
from tools.openapi.errors import error_content as errors
from tools.openapi.fields import TRANSCRIPTION, TRANSLATION
from tools.openapi.parts import (
    JSON,
    MODEL,
    SRT_EXAMPLE,
    VTT_EXAMPLE,
    Described,
    answer,
    json_answer,
    open_to_all,
    operation,
    path,
    plain,
    upload,
)
from tools.openapi.schemas import either, to

EVENTS_EXAMPLE = """\
data: {"type":"transcript.text.delta","delta":"zero one"}

data: {"type":"transcript.text.done","text":"zero one","language":"English","languages":\
[{"code":"en"}],"duration":1.9,"segments":[{"id":0,"start":0.1,"end":1.8,"text":"zero one"}],\
"usage":{"type":"tokens","input_tokens":41,"input_token_details":{"text_tokens":15,\
"audio_tokens":26},"output_tokens":3,"total_tokens":44}}

data: [DONE]

"""
EVENTS = {
    "schema": {"description": "One `data:` line an event, a blank line behind."},
    "x-item-schema": either(
        "DeltaEvent", "SpokenSegment", "ProgressEvent", "DoneEvent", "ErrorEvent"
    ),
    "example": EVENTS_EXAMPLE,
}
TRANSCRIBED = answer(
    "The transcript, in the format that was asked for. A recording without speech is no error: "
    "its text is empty, and it has no cues.",
    {
        JSON: {"schema": either("Transcript", "VerboseTranscript", "DiarizedTranscript")},
        "text/plain": plain(SRT_EXAMPLE, "`text`, which ends in a line end; `srt`, `ass`, `lrc`."),
        "text/vtt": plain(VTT_EXAMPLE, "`vtt`."),
        "text/event-stream": EVENTS,
    },
    MODEL,
)
TRANSCRIPTIONS = operation(
    "Transcription",
    "createTranscription",
    "Transcribe a recording",
    "The server waits for the model to load where it has to. A caller that hangs up ends the work "
    "on its recording.\n\n"
    "With `stream=true` the text comes as events while it is heard; the status is sent with the "
    "first of them, so that a file that is no audio has a status of its own. What fails later is "
    "the event `error`, and ends the stream. A comment, `: keep-alive`, follows 10 s of silence.",
    {"200": TRANSCRIBED, **error_answers(FOR_UPLOADS)},
    requestBody=upload(TRANSCRIPTION),
)
TRANSLATIONS = operation(
    "Transcription",
    "createTranslation",
    "Translate a recording",
    "The recording is transcribed, then translated line by line by a language model, which the "
    "operator names with `OPENAI_BASE_URL` and `TRANSLATE_MODEL`. Where these are not set, the "
    "answer is 400, code `unsupported`: a text that is not translated is never given.",
    {
        "200": answer(
            "The translation, in the format that was asked for.",
            {
                JSON: {"schema": either("Translation", "VerboseTranslation")},
                "text/plain": plain(SRT_EXAMPLE, "`text`, which ends in a line end; `srt`."),
                "text/vtt": plain(VTT_EXAMPLE, "`vtt`."),
            },
            MODEL,
        ),
        **error_answers(FOR_TRANSLATIONS),
    },
    requestBody=upload(TRANSLATION),
)
MODEL_LIST = operation(
    "Models",
    "listModels",
    "The served model",
    "By its hub id, its folder's name, or `embedded`.",
    {"200": json_answer("A list of one.", to("ModelList")), **error_answers(FOR_ALL)},
)
MODEL_BY_ID = operation(
    "Models",
    "retrieveModel",
    "A model by its id",
    f"The served model, also by the names that clients have built in: "
    f"{', '.join(f'`{name}`' for name in ALIASES)}. `root` then says what is served in its place.",
    {
        "200": json_answer("The model.", to("Model")),
        **error_answers((*FOR_ALL, "model_not_found")),
    },
    parameters=[
        {
            "name": "model_id",
            "in": "path",
            "required": True,
            "description": "Ids with a slash may be written as they are or as `%2F`.",
            "schema": {"type": "string", "minLength": 1},
            "example": ALIASES[0],
        }
    ],
)
LIVE = open_to_all(
    "Health",
    "isLive",
    "Whether the server answers",
    "200 as long as it does, also where more connections are open than `MAX_CONNECTIONS`.",
    {"200": json_answer("It does.", to("Live"))},
)
READY = open_to_all(
    "Health",
    "isReady",
    "Whether a request sent now would be served",
    "So also when the model is not loaded: the request would load it.",
    {
        "200": json_answer("It would be.", to("Ready")),
        "503": json_answer(
            "It would not be, and why; or too many connections are open.",
            {"anyOf": [to("Unready"), errors(["queue_full"])]},
        ),
    },
    parameters=[
        {
            "name": "require",
            "in": "query",
            "description": "`loaded`: 503 as well while no model is loaded.",
            "schema": {"type": "string"},
            "example": "loaded",
        }
    ],
)
HEALTH = open_to_all(
    "Health",
    "getHealth",
    "How the server is doing",
    "200 whatever the state of its workers.",
    {"200": json_answer("The state of every worker.", to("Health"))},
)
STATUS = open_to_all(
    "Health",
    "getStatus",
    "The server's version",
    "For clients that look for a transcription service.",
    {"200": json_answer("The version.", to("Status"))},
)
ROOT = open_to_all(
    "Health",
    "getRoot",
    "A page about this server",
    "For browsers, which ask for `text/html`; programs get what `/health` says.",
    {
        "200": answer(
            "The page, or the state of every worker.",
            {JSON: {"schema": to("Health")}, "text/html": {"schema": {"type": "string"}}},
        )
    },
)
DESCRIPTION = open_to_all(
    "Documentation",
    "getDescription",
    "This description",
    "OpenAPI 3.1.",
    {
        "200": json_answer("The description.", {"type": "object"}),
        **error_answers(("internal_error", "queue_full")),
    },
)
PAGE = open_to_all(
    "Documentation",
    "getDocumentation",
    "This description as a page",
    "One document without scripts, which loads nothing.",
    {
        "200": answer("The page.", {"text/html": {"schema": {"type": "string"}}}),
        **error_answers(("internal_error", "queue_full")),
    },
)


PATHS: Described = {
    "/v1/audio/transcriptions": path(("/audio/transcriptions",), post=TRANSCRIPTIONS),
    "/v1/audio/translations": path(("/audio/translations",), post=TRANSLATIONS),
    **other_fronts.PATHS,
    **realtime.PATHS,
    **calls.PATHS,
    "/v1/models": path(("/models",), get=MODEL_LIST),
    "/v1/models/{model_id}": path(("/models/{model_id}",), get=MODEL_BY_ID),
    LIVE_PATHS[0]: path(LIVE_PATHS[1:], get=LIVE),
    READY_PATHS[0]: path(READY_PATHS[1:], get=READY),
    "/health": path(get=HEALTH),
    "/status": path(get=STATUS),
    "/": path(get=ROOT),
    "/openapi.json": path(get=DESCRIPTION),
    "/docs": path(get=PAGE),
}

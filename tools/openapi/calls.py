"""Following calls, and having an engine started before one."""

from gateway.live.query import CALL_ID
from gateway.routes.calls import MOST_WARM_SECONDS, WARM_SECONDS
from tools.openapi.errors import FOR_ALL, error_answers
from tools.openapi.parts import JSON, REQUEST_ID, Described, answer, json_answer, operation, path
from tools.openapi.schemas import COUNT, SECONDS, Schema, of, record, to

KINDS = {
    "call.started": "the first event",
    "session.started": "a connection is part of the call",
    "engine.warming_up": "no engine is there yet: what is said meanwhile is heard later",
    "engine.ready": "an engine listens",
    "speech.started": "somebody speaks",
    "speech.stopped": "they were silent long enough",
    "speech.cleared": "the session's client forgets what it had not committed",
    "text.partial": "text of an item so far; takes the place of the one before",
    "text.final": "an item's text",
    "text.failed": "an item will have no text",
    "session.ended": "a connection is over, with `code` and `message` where it failed",
    "call.ended": "the last event",
    "partials.dropped": "for this follower alone: it read so slowly that it lost `count` partials",
    "history.truncated": "for this follower alone: so many `finals`, up to the second `until` of "
    "the call, are not kept any more",
}
EVENTS_EXAMPLE = """\
id: 5ee1f00d-1
data: {"type":"call.started","id":"5ee1f00d-1","sequence":1,"call_id":"4711","time":0.0,\
"started_at":1767225600.0}

id: 5ee1f00d-9
data: {"type":"text.final","id":"5ee1f00d-9","sequence":9,"call_id":"4711","time":3.1,\
"session_id":"sess_5d1e","item_id":"item_0a3c","channel":0,"text":"zero one",\
"language":"English","start":0.4,"end":2.2,"lag":0.31}

"""
EVENT = record(
    "Of a call: " + "; ".join(f"`{kind}`, {text}" for kind, text in KINDS.items()) + ".",
    "type call_id",
    {
        "type": of("string", "What happened.", enum=list(KINDS)),
        "id": of("string", "Where to go on reading: `Last-Event-ID`."),
        "sequence": {"type": "integer", "minimum": 1, "description": "Numbers the call's events."},
        "call_id": {"type": "string"},
        "time": {**SECONDS, "description": "When it was told, in seconds of the call."},
        "started_at": of("number", "When the call began, in Unix time."),
        "session_id": of("string", "The connection it was heard in."),
        "offset": {**SECONDS, "description": "When the session began, in seconds of the call."},
        "encoding": of("string", "Of the session's audio.", enum=["pcm16", "mulaw", "alaw"]),
        "sample_rate": {"type": "integer", "description": "Of the session's audio."},
        "channels": {"type": "integer", "minimum": 1, "maximum": 2},
        "item_id": of("string", "Of a turn; unique within its session."),
        "channel": {"type": "integer", "minimum": 0, "maximum": 1},
        "start": {**SECONDS, "description": "Where a turn begins, in seconds of the call."},
        "end": {**SECONDS, "description": "Where it ends."},
        "stable": of("string", "Of a partial: what is settled."),
        "tail": of("string", "What follows for now."),
        "text": of("string", "Of a final: all of it."),
        "language": {"type": ["string", "null"], "description": "English name."},
        "lag": of("number", "Seconds by which the text is behind the audio it covers."),
        "code": {"type": ["string", "null"], "description": "Why there is no text."},
        "message": {"type": ["string", "null"], "description": "What to do."},
        "finals": {**COUNT, "description": "Turns answered in the call, or no longer kept."},
        "until": {**SECONDS, "description": "Where those end that are not kept."},
        "count": {**COUNT, "description": "Partials that this follower lost."},
    },
    examples=[
        {
            "type": "text.final",
            "id": "5ee1f00d-9",
            "sequence": 9,
            "call_id": "4711",
            "time": 3.1,
            "session_id": "sess_5d1e",
            "item_id": "item_0a3c",
            "channel": 0,
            "text": "zero one",
            "language": "English",
            "start": 0.4,
            "end": 2.2,
            "lag": 0.31,
        }
    ],
)
STREAM = {
    "schema": {"description": "`id:` and one `data:` line an event, a blank line behind."},
    "x-item-schema": to("CallEvent"),
    "example": EVENTS_EXAMPLE,
}
LAST_EVENT = "The `id` of the last event that was read, to go on behind it."
FOLLOW = operation(
    "Live",
    "followCall",
    "Follow a call",
    "What is heard in all live sessions with this `call_id`, from the call's start, then as it "
    "comes, until the call has ended. Ended calls can be read for `LIVE_HISTORY_SECONDS`, with the "
    "key that opened them alone. A comment, `: keep-alive`, follows 10 s of silence. As a "
    "WebSocket the same path sends each event as a text frame.",
    {
        "200": answer("The call's events.", {"text/event-stream": STREAM}),
        "204": {
            "description": "The call has ended, and its last event was read.",
            "headers": REQUEST_ID,
        },
        **error_answers((*FOR_ALL, "call_not_found")),
    },
    parameters=[
        {
            "name": "call_id",
            "in": "path",
            "required": True,
            "description": "As it was given to the live session, or made for it.",
            "schema": {
                "type": "string",
                "pattern": f"^{CALL_ID.pattern}$".replace(r"\w", "A-Za-z0-9_"),
            },
            "example": "4711",
        },
        {
            "name": "last-event-id",
            "in": "header",
            "description": LAST_EVENT,
            "schema": {"type": "string"},
            "example": "5ee1f00d-9",
        },
        {
            "name": "last_event_id",
            "in": "query",
            "description": f"{LAST_EVENT} For clients that cannot send the header.",
            "schema": {"type": "string"},
            "example": "5ee1f00d-9",
        },
    ],
)
WANTED = record(
    "How long an engine is wanted.",
    "",
    {
        "seconds": of(
            "number",
            "From now on. Afterwards it ends when it was idle for `IDLE_TIMEOUT`.",
            minimum=1,
            maximum=MOST_WARM_SECONDS,
            default=WARM_SECONDS,
        )
    },
    examples=[{"seconds": WARM_SECONDS}],
)
WARM = operation(
    "Live",
    "warm",
    "Have an engine started",
    "For those who know that a call or a recording is about to come. Answers at once; further "
    "requests extend the time, and none shortens it.",
    {
        "202": json_answer("One is there, or starts.", to("Warming")),
        **error_answers(
            (
                *FOR_ALL,
                "invalid_value",
                "request_timeout",
                "upload_too_large",
                "worker_unavailable",
                "shutting_down",
            )
        ),
    },
    requestBody={"required": False, "content": {JSON: {"schema": WANTED}}},
)
SCHEMAS: Schema = {
    "CallEvent": EVENT,
    "Warming": record(
        "How the engine stands.",
        "engine seconds",
        {
            "engine": of("string", "`ready`, or still `starting`.", enum=["starting", "ready"]),
            "seconds": of("number", "How long it is wanted at least."),
        },
        examples=[{"engine": "starting", "seconds": WARM_SECONDS}],
    ),
}
PATHS: Described = {
    "/v1/calls/{call_id}/events": path(("/calls/{call_id}/events",), get=FOLLOW),
    "/v1/warm": path(("/warm",), post=WARM),
}

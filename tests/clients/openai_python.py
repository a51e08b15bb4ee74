"""Runs in the environment of an openai package of any major version: see drivers.py.

Fields that this version has no parameter for go as its users send them, in extra_body.
"""

import inspect
import json
import sys
import time
import traceback
from typing import Any

import openai


def main() -> None:
    for line in sys.stdin:
        try:
            outcome = perform(json.loads(line))
        except Exception:
            outcome = {"fault": traceback.format_exc()}
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


def perform(call: dict[str, Any]) -> dict[str, Any]:
    attempts: list[dict[str, Any]] = []
    with client(call["server"], attempts) as openai_client:
        try:
            outcome = ask(openai_client, call)
        except openai.APIError as error:
            outcome = {"error": told(error)}
    return {**outcome, "attempts": attempts}


def client(server: dict[str, Any], attempts: list[dict[str, Any]]) -> openai.OpenAI:
    def note(response: Any) -> None:
        attempts.append(
            {
                "at": time.monotonic(),
                "path": response.request.url.raw_path.decode(),
                "sent": dict(response.request.headers),
                "status": response.status_code,
                "headers": dict(response.headers),
            }
        )

    return openai.OpenAI(
        base_url=server["url"],
        api_key=server["key"],
        max_retries=server["max_retries"],
        timeout=100,
        http_client=openai.DefaultHttpxClient(event_hooks={"response": [note]}),
    )


def ask(openai_client: openai.OpenAI, call: dict[str, Any]) -> dict[str, Any]:
    if call["do"] == "models":
        return {"value": [plain(model) for model in openai_client.models.list()]}
    if call["do"] == "model":
        return {"value": plain(openai_client.models.retrieve(call["fields"]["id"]))}
    resources = openai_client.audio
    resource = resources.translations if call["do"] == "translate" else resources.transcriptions
    with open(call["file"], "rb") as file:
        content = file if call["as"] == "stream" else file.read()
        answer = resource.create(file=content, **arguments(resource.create, call["fields"]))
        if call["fields"].get("stream"):
            return {"events": events(answer, call["started"])}
    identity = getattr(answer, "_request_id", None)
    return {"value": plain(answer), "class": type(answer).__name__, "request_id": identity}


def events(stream: Any, started: str | None) -> list[Any]:
    """All of them. A file `started` is made when the first is there."""
    found = []
    for event in stream:
        if started and not found:
            open(started, "x").close()
        found.append(plain(event))
    return found


def arguments(method: Any, fields: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(method).parameters
    taken = {name: value for name, value in fields.items() if name in known}
    others = {name: value for name, value in fields.items() if name not in known}
    return {**taken, "extra_body": others} if others else taken


def plain(answer: Any) -> Any:
    """As sent: without the fields that this version only knows of."""
    return answer if isinstance(answer, str) else answer.model_dump(exclude_unset=True)


def told(error: openai.APIError) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "message": error.message,
        "status": getattr(error, "status_code", None),
        "request_id": getattr(error, "request_id", None),
        "code": error.code,
        "param": error.param,
        "type": error.type,
    }


main()

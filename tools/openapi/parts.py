"""What descriptions of operations are made of."""

from collections.abc import Iterable
from typing import Any

from tools.openapi.fields import Field, form_schema

Described = dict[str, Any]
JSON = "application/json"
REQUEST_ID = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
MODEL = {"x-model": {"$ref": "#/components/headers/Model"}}
RETRY_AFTER = {"retry-after": {"$ref": "#/components/headers/RetryAfter"}}
SRT_EXAMPLE = "1\n00:00:00,100 --> 00:00:01,800\nzero one\n\n"
VTT_EXAMPLE = "WEBVTT\n\n00:00:00.100 --> 00:00:01.800\nzero one\n\n"


def operation(
    tag: str, name: str, summary: str, text: str, responses: Described, **more: Any
) -> Described:
    """One method of a path."""
    return {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        "description": text,
        **more,
        "responses": responses,
    }


def answer(text: str, content: Described, headers: Described | None = None) -> Described:
    """An answer that went well."""
    return {"description": text, "headers": {**REQUEST_ID, **(headers or {})}, "content": content}


def json_answer(text: str, schema: Described) -> Described:
    """The same with JSON alone."""
    return answer(text, {JSON: {"schema": schema}})


def plain(example: str, text: str) -> Described:
    """Text that is no JSON."""
    return {"schema": {"type": "string", "description": text}, "example": example}


def upload(fields: tuple[Field, ...]) -> Described:
    """The body of a request with a recording."""
    content = {"multipart/form-data": {"schema": form_schema(fields)}}
    return {"required": True, "content": content}


def path(aliases: Iterable[str] = (), **operations: Described) -> Described:
    """A path, and the other ones that do the same."""
    others = list(aliases)
    return {**({"x-aliases": others} if others else {}), **operations}


def open_to_all(*arguments: Any, **more: Any) -> Described:
    """An operation that takes no key."""
    return operation(*arguments, security=[], **more)

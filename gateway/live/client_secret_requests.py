"""What a request for a client secret asks for, and its answer, as OpenAI writes both. Pure.

There is a newer form, and a flat one of the beta, whose whole body is the session.
"""

from dataclasses import dataclass

from gateway.errors import BadRequest
from gateway.live.client_secrets import DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS
from gateway.live.messages import read_object
from gateway.live.realtime_session import SessionConfig, flat, nested, usual_session
from gateway.live.realtime_update import updated
from gateway.live.realtime_values import BadValue, mapping, whole


@dataclass(frozen=True, slots=True)
class SecretRequest:
    """One request."""

    session: SessionConfig
    seconds: int
    """How long the secret is valid."""


def parse_request(body: bytes, *, default_model: str, is_flat: bool) -> SecretRequest:
    """An empty body asks for what is usual. Raises BadRequest."""
    fields = read_object(body.decode("utf-8", "replace")) if body.strip() else {}
    if fields is None:
        raise BadRequest("The body must be a JSON object.")
    config = usual_session(default_model)
    try:
        seconds = _seconds(fields.get("expires_after"))
        session = fields if is_flat else fields.get("session") or {}
        return SecretRequest(updated(config, session, default_model=default_model), seconds)
    except BadValue as bad:
        param = bad.param.removeprefix("session.") if is_flat else bad.param
        raise BadRequest(bad.message.replace(bad.param, param), param=param) from None


def answer(
    request: SecretRequest, *, value: str, expires_at: int, session_id: str, is_flat: bool
) -> dict[str, object]:
    """expires_at: Unix time."""
    secret = {"value": value, "expires_at": expires_at}
    if is_flat:
        return {**flat(request.session, session_id), "client_secret": secret}
    return {**secret, "session": nested(request.session, session_id)}


def _seconds(expires_after: object) -> int:
    if expires_after is None:
        return DEFAULT_SECONDS
    wishes = mapping(expires_after, "expires_after")
    if wishes.get("anchor", "created_at") != "created_at":
        raise BadValue("expires_after.anchor", "expires_after.anchor must be created_at.")
    path = "expires_after.seconds"
    return whole(wishes.get("seconds"), path, DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS)

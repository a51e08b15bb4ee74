"""Following calls, and having an engine started before one: what diallers and phone systems use.

What it takes to follow a call is loaded with the first follower.
"""

import asyncio
import json
import math
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.boundary import ClientGone
from gateway.context import Gateway
from gateway.errors import (
    BadRequest,
    RequestStalled,
    Unavailable,
    UploadTooLarge,
    shutting_down,
)
from gateway.routes.health import is_loaded

if TYPE_CHECKING:
    from gateway.live.call_events import Calls

MAX_WARM_BODY = 4096
WARM_SECONDS = 120
"""Unless the caller says how long: an engine may take so long to start."""
MOST_WARM_SECONDS = 3600


class CallRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A call's events, one after another."""
        from gateway.live.following import send_events

        await send_events(self._calls(), scope, receive, send)

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same over a WebSocket."""
        from gateway.live.following import send_messages

        await send_messages(self._calls(), scope, receive, send)

    async def warm(self, request: Request) -> Response:
        """Have an engine started and kept; answers at once."""
        if self._gateway.is_draining:
            raise shutting_down()
        seconds = parse_warm(await self._small_body(request))
        self._gateway.worker_client.warm(seconds)
        snapshot = self._gateway.worker_client.snapshot()
        if not snapshot.can_serve:
            reason = snapshot.reason or "no worker can serve"
            raise Unavailable(f"No engine can be started now: {reason}.")
        state = "ready" if is_loaded(snapshot) else "starting"
        return JSONResponse({"engine": state, "seconds": seconds}, status_code=202)

    def _calls(self) -> "Calls":
        return self._gateway.call_events

    async def _small_body(self, request: Request) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._gateway.settings.body_timeout):
                async for piece in request.stream():
                    body += piece
                    if len(body) > MAX_WARM_BODY:
                        text = f"The body may have {MAX_WARM_BODY} bytes at most."
                        raise UploadTooLarge(text)
        except TimeoutError:
            raise RequestStalled("The request's body did not arrive in time.") from None
        except ClientDisconnect:
            raise ClientGone from None
        return body


def parse_warm(body: bytes) -> float:
    """For how many seconds an engine is wanted. Raises BadRequest."""
    try:
        fields = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise BadRequest("The body is empty, or a JSON object such as {}.") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body is empty, or a JSON object such as {}.")
    seconds = fields.get("seconds")
    if seconds is None:
        return WARM_SECONDS
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or not 1 <= seconds <= MOST_WARM_SECONDS:
        raise BadRequest(f"seconds is a number from 1 to {MOST_WARM_SECONDS}.", param="seconds")
    return float(seconds)

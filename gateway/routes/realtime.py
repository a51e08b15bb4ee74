"""POST /v1/realtime/client_secrets, and the beta's /v1/realtime/transcription_sessions.

What they need of live sessions is loaded with the first request.
"""

import secrets
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.boundary import record_of
from gateway.context import Gateway
from gateway.errors import UploadTooLarge

MAX_BODY_BYTES = 64 * 1024


class RealtimeRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def client_secret(self, request: Request) -> Response:
        """Raises BadRequest, UploadTooLarge, Unavailable."""
        return await self._create(request, is_flat=False)

    async def transcription_session(self, request: Request) -> Response:
        """Raises BadRequest, UploadTooLarge, Unavailable."""
        return await self._create(request, is_flat=True)

    async def _create(self, request: Request, *, is_flat: bool) -> Response:
        from gateway.live.client_secret_requests import answer, parse_request

        model = self._gateway.settings.served_model
        asked = parse_request(await _body(request), default_model=model, is_flat=is_flat)
        owner = record_of(request.scope).owner
        value = self._gateway.client_secrets.create(owner, asked.session, asked.seconds)
        told = answer(
            asked,
            value=value,
            expires_at=int(time.time()) + asked.seconds,
            session_id=f"sess_{secrets.token_hex(12)}",
            is_flat=is_flat,
        )
        return JSONResponse(told, headers={"cache-control": "no-store"})


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise UploadTooLarge(f"The body may have {MAX_BODY_BYTES} bytes at most.")
    return bytes(body)

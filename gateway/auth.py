"""One wrapper that decides who may speak: API keys, and the origins of web pages.

It decides on scope["path"], which is what routing uses too, and before a byte of a body is read.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.boundary import record_of
from gateway.errors import Forbidden, Unauthorized
from gateway.origins import is_origin_allowed
from gateway.settings import ApiKey

PREFLIGHT_SECONDS = 600
"""How long a browser may remember what it was allowed."""
KEY_SUBPROTOCOL = "openai-insecure-api-key."
SECRET_PREFIX = "ek_"
"""Of client secrets, which open live sessions alone. OpenAI's: by it, its client for browsers tells
that a key may be there."""


class Gatekeeper:
    """Wraps the routes. Without keys everybody may call; web pages are checked all the same."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[ApiKey],
        allowed_origins: Collection[str],
        open_paths: Collection[str],
        secret_paths: Collection[str] = (),
        owner_of_secret: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`owner_of_secret`: id of the key that a valid client secret was made with, which may open
        the WebSockets of `secret_paths`."""
        self._app = app
        self._keys = tuple(keys)
        self._allowed_origins = frozenset(allowed_origins)
        self._open_paths = frozenset(open_paths)
        self._secret_paths = frozenset(secret_paths)
        self._owner_of_secret = owner_of_secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            takes_secrets = scope["path"] in self._secret_paths
            headers = Headers(scope=scope)
            record_of(scope).owner = self._check(headers, takes_secrets=takes_secrets)
        elif scope["path"] not in self._open_paths:
            headers = Headers(scope=scope)
            if self._is_preflight(scope["method"], headers):
                await _preflight_answer(headers)(scope, receive, send)
                return
            record = record_of(scope)
            if self._is_listed(headers.get("origin")):
                record.answer_headers = _readable_for(headers["origin"])
            record.owner = self._check(headers)
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, *, takes_secrets: bool = False) -> str | None:
        """The id of the caller's key, None on an open server. Raises Forbidden, Unauthorized."""
        origin = headers.get("origin")
        if origin is not None and not is_origin_allowed(
            origin,
            headers.get("host", ""),
            allowed=self._allowed_origins,
            has_keys=bool(self._keys),
        ):
            raise Forbidden(
                "Web pages of this origin may not use the server. Its operator can list the "
                "origin in ALLOWED_ORIGINS."
            )
        if not self._keys:
            return None
        presented = presented_key(headers)
        if takes_secrets and presented is not None and presented.startswith(SECRET_PREFIX):
            owner = self._owner_of_secret(presented)
            if owner is not None:
                return owner
        return self._owner(presented)

    def _owner(self, presented: str | None) -> str:
        if presented is None:
            raise Unauthorized("Send an API key: Authorization: Bearer YOUR_KEY.")
        digest = hashlib.sha256(presented.encode("utf-8")).digest()
        matching = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not matching:
            raise Unauthorized("This API key is not known here. Check the key you send.")
        return matching[0].key_id

    def _is_listed(self, origin: str | None) -> bool:
        listed = self._allowed_origins
        return origin is not None and ("*" in listed or origin.lower() in listed)

    def _is_preflight(self, method: str, headers: Headers) -> bool:
        asks = method == "OPTIONS" and "access-control-request-method" in headers
        return asks and self._is_listed(headers.get("origin"))


def presented_key(headers: Headers) -> str | None:
    """The key a request carries: a Bearer token, else api-key or x-api-key, else, for browsers,
    whose WebSockets can have no headers, among the subprotocols.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("api-key") or headers.get("x-api-key") or _key_among_subprotocols(headers)


def _key_among_subprotocols(headers: Headers) -> str | None:
    """As OpenAI's clients in browsers send it."""
    for name in ",".join(headers.getlist("sec-websocket-protocol")).split(","):
        if name.strip().startswith(KEY_SUBPROTOCOL):
            return name.strip().removeprefix(KEY_SUBPROTOCOL) or None
    return None


def _preflight_answer(headers: Headers) -> Response:
    """What a browser asks before it sends a request of a listed origin (Fetch standard, CORS)."""
    return Response(
        status_code=204,
        headers={
            "access-control-allow-origin": headers["origin"],
            "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
            "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
            "access-control-max-age": str(PREFLIGHT_SECONDS),
            "vary": "Origin, Access-Control-Request-Headers",
        },
    )


def _readable_for(origin: str) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that let a page of `origin` read an answer."""
    return (
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"x-request-id, retry-after"),
        (b"vary", b"Origin"),
    )

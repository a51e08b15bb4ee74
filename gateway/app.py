"""The ASGI app as data: which path belongs to which handler, and what wraps them all."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Gatekeeper
from gateway.boundary import RequestBoundary, record_of
from gateway.context import Gateway
from gateway.errors import MethodNotAllowed, NotFound, Unavailable
from gateway.routes.health import (
    ALIVE_PATHS,
    LIVE_PATHS,
    OPEN_PATHS,
    READY_PATHS,
    HealthRoutes,
)
from gateway.routes.models import ModelRoutes
from gateway.routes.transcriptions import TranscriptionRoutes
from gateway.routes.translations import TranslationRoutes

Handler = Callable[[Request], Awaitable[Response]]
PROBE_METHODS = ("GET", "HEAD", "OPTIONS")


def build_app(gateway: Gateway) -> ASGIApp:
    """Everything a caller sees."""
    settings = gateway.settings
    gatekeeper = Gatekeeper(
        _with_our_errors(
            Router(
                routes=[*_health_routes(gateway), *_api_routes(gateway)],
                redirect_slashes=False,
                default=_not_found,
            )
        ),
        keys=settings.accepted_keys,
        allowed_origins=settings.allowed_origins,
        open_paths=OPEN_PATHS,
    )
    return RequestBoundary(gatekeeper)


def build_overloaded_app(gateway: Gateway) -> ASGIApp:
    """Answers on a connection beyond those the server keeps: one request, and only whether the
    server lives. The client's next connection may find room."""
    probes = _with_our_errors(Router(routes=_health_routes(gateway), redirect_slashes=False))

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).answer_headers = ((b"connection", b"close"),)
        if scope["path"] not in ALIVE_PATHS:
            raise Unavailable("Too many connections. Try again shortly.", code="queue_full")
        await probes(scope, receive, send)

    return RequestBoundary(answer)


def _health_routes(gateway: Gateway) -> list[Route]:
    health = HealthRoutes(gateway)
    return [
        _probe("/", health.root),
        _probe("/health", health.health),
        _probe("/status", health.status),
        *(_probe(path, health.live) for path in LIVE_PATHS),
        *(_probe(path, health.ready) for path in READY_PATHS),
    ]


def _api_routes(gateway: Gateway) -> list[Route]:
    """Under /v1 as OpenAI has them, and without it for base URLs given without it."""
    models = ModelRoutes(gateway)
    transcriptions = TranscriptionRoutes(gateway)
    translations = TranslationRoutes(gateway, transcriptions)
    return [
        route
        for prefix in ("/v1", "")
        for route in (
            Route(
                f"{prefix}/audio/transcriptions", _Endpoint(transcriptions.create), methods=["POST"]
            ),
            Route(f"{prefix}/audio/translations", _Endpoint(translations.create), methods=["POST"]),
            Route(f"{prefix}/models", models.list, methods=["GET"]),
            Route(f"{prefix}/models/{{model_id:path}}", models.get, methods=["GET"]),
        )
    ]


class _Endpoint:
    """A handler that sends its own answer: Starlette takes functions for ones that return it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _probe(path: str, handler: Handler) -> Route:
    async def answer(request: Request) -> Response:
        record_of(request.scope).is_probe = True
        return await handler(request)

    return Route(path, answer, methods=PROBE_METHODS)


def _with_our_errors(router: Router) -> ASGIApp:
    """Starlette raises its 405 only where the scope names an app, else it answers in plain text."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router
        try:
            await router(scope, receive, send)
        except HTTPException as error:
            allow = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            message = f"This path does not take {scope['method']}. It takes {allow}."
            raise MethodNotAllowed(message, allow) from None

    return route


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("Nothing is served under this path. Paths begin with /v1, such as /v1/models.")

"""The ASGI app as data: which path belongs to which handler, and what wraps them all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Gatekeeper
from gateway.boundary import RequestBoundary, record_of
from gateway.context import Gateway
from gateway.dialects import DIALECTS, SECRET_PATHS
from gateway.error_shapes import ErrorShape, flat, silent
from gateway.errors import MethodNotAllowed, NotFound, Unavailable
from gateway.routes import documentation
from gateway.routes.asr_webservice import AsrWebserviceRoutes
from gateway.routes.calls import CallRoutes
from gateway.routes.health import (
    ALIVE_PATHS,
    LIVE_PATHS,
    OPEN_PATHS,
    READY_PATHS,
    HealthRoutes,
)
from gateway.routes.models import ModelRoutes
from gateway.routes.predecessor import PredecessorRoutes
from gateway.routes.realtime import RealtimeRoutes
from gateway.routes.transcriptions import TranscriptionRoutes
from gateway.routes.translations import TranslationRoutes

Handler = Callable[[Request], Awaitable[Response]]
PROBE_METHODS = ("GET", "HEAD", "OPTIONS")
PREFIXES = ("/v1", "")
"""OpenAI has its routes under /v1; base URLs are also given without it."""
CALL_EVENTS_PATH = "/calls/{call_id}/events"
ERROR_SHAPES: dict[str, ErrorShape] = {
    "/asr": silent,
    "/detect-language": silent,
    **{f"{prefix}/audio/subtitles": flat("SUBTITLE_TIMEOUT") for prefix in PREFIXES},
    **{
        f"{prefix}/audio/transcriptions/stream": flat("TRANSCRIPTION_TIMEOUT")
        for prefix in PREFIXES
    },
}
"""Of the paths whose clients do not expect OpenAI's errors."""


def build_app(gateway: Gateway) -> ASGIApp:
    """Everything a caller sees."""
    return guarded(gateway, [*all_routes(gateway), *live_routes(gateway, DIALECTS)])


def guarded(gateway: Gateway, routes: Sequence[BaseRoute]) -> ASGIApp:
    """Routes with what wraps them all."""
    settings = gateway.settings
    gatekeeper = Gatekeeper(
        _with_our_errors(
            Router(
                routes=routes,
                redirect_slashes=False,
                default=_not_found,
            )
        ),
        keys=settings.accepted_keys,
        allowed_origins=settings.allowed_origins,
        open_paths=(*OPEN_PATHS, *documentation.DOCUMENTATION_PATHS),
        secret_paths=SECRET_PATHS,
        owner_of_secret=gateway.owner_of_secret,
    )
    return RequestBoundary(gatekeeper, ERROR_SHAPES)


def all_routes(gateway: Gateway) -> list[Route]:
    """Every path that is served over HTTP."""
    return [*_health_routes(gateway), *_api_routes(gateway), *_documentation_routes()]


def live_routes(gateway: Gateway, dialects: Mapping[str, str]) -> list[BaseRoute]:
    """Every path of a live dialect, each with its module, and those that follow calls."""
    follow = _Endpoint(CallRoutes(gateway).socket)
    paths: dict[str, ASGIApp] = {
        **{f"{prefix}{CALL_EVENTS_PATH}": follow for prefix in PREFIXES},
        **{path: _LiveEndpoint(gateway, module) for path, module in dialects.items()},
    }
    plain = _Endpoint(_upgrade_needed)
    return [
        *(WebSocketRoute(path, app) for path, app in paths.items()),
        *(Route(path, plain) for path in dialects),
    ]


def build_overloaded_app(gateway: Gateway) -> ASGIApp:
    """Answers on a connection beyond those the server keeps: one request, and only whether the
    server lives. The client's next connection may find room."""
    probes = _with_our_errors(Router(routes=_health_routes(gateway), redirect_slashes=False))

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).answer_headers = ((b"connection", b"close"),)
        if scope["type"] == "websocket" or scope["path"] not in ALIVE_PATHS:
            raise Unavailable("Too many connections. Try again shortly.", code="queue_full")
        await probes(scope, receive, send)

    return RequestBoundary(answer, ERROR_SHAPES)


def _health_routes(gateway: Gateway) -> list[Route]:
    health = HealthRoutes(gateway)
    return [
        _probe("/", health.root),
        _probe("/health", health.health),
        _probe("/status", health.status),
        *(_probe(path, health.live) for path in LIVE_PATHS),
        *(_probe(path, health.ready) for path in READY_PATHS),
    ]


def _documentation_routes() -> list[Route]:
    return [
        Route("/openapi.json", documentation.description, methods=["GET"]),
        Route("/docs", documentation.page, methods=["GET"]),
    ]


def _api_routes(gateway: Gateway) -> list[Route]:
    models = ModelRoutes(gateway)
    transcriptions = TranscriptionRoutes(gateway)
    translations = TranslationRoutes(gateway, transcriptions)
    predecessor = PredecessorRoutes(gateway, transcriptions)
    realtime = RealtimeRoutes(gateway)
    webservice = AsrWebserviceRoutes(gateway, transcriptions, translations)
    calls = CallRoutes(gateway)
    return [
        _upload("/asr", webservice.asr),
        _upload("/detect-language", webservice.detect_language),
        *(
            route
            for prefix in PREFIXES
            for route in (
                _upload(f"{prefix}/audio/transcriptions", transcriptions.create),
                _upload(f"{prefix}/audio/transcriptions/stream", predecessor.stream),
                _upload(f"{prefix}/audio/subtitles", predecessor.subtitles),
                _upload(f"{prefix}/audio/translations", translations.create),
                Route(
                    f"{prefix}/realtime/client_secrets", realtime.client_secret, methods=["POST"]
                ),
                Route(
                    f"{prefix}/realtime/transcription_sessions",
                    realtime.transcription_session,
                    methods=["POST"],
                ),
                Route(f"{prefix}{CALL_EVENTS_PATH}", _Endpoint(calls.events), methods=["GET"]),
                Route(f"{prefix}/warm", calls.warm, methods=["POST"]),
                Route(f"{prefix}/models", models.list, methods=["GET"]),
                Route(f"{prefix}/models/{{model_id:path}}", models.get, methods=["GET"]),
            )
        ),
    ]


def _upload(path: str, app: ASGIApp) -> Route:
    return Route(path, _Endpoint(app), methods=["POST"])


class _Endpoint:
    """A handler that sends its own answer: Starlette takes functions for ones that return it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _LiveEndpoint:
    """A dialect's path; what it takes to serve it is loaded with the first client."""

    def __init__(self, gateway: Gateway, module: str) -> None:
        self._gateway = gateway
        self._module = module

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from gateway.live.handler import dialect_of, serve

        await serve(self._gateway, dialect_of(self._module), scope, receive, send)


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


async def _upgrade_needed(scope: Scope, receive: Receive, send: Send) -> None:
    from gateway.websockets.handshake import UpgradeNeeded  # loaded with its first use

    raise UpgradeNeeded(
        "This path is a WebSocket: connect to it with ws:// or wss://. A proxy in between must "
        "pass on the headers Upgrade and Connection."
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("Nothing is served under this path. Paths begin with /v1, such as /v1/models.")

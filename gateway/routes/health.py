"""Health answers: from memory, without a key, for HEAD and OPTIONS too, and never waking anything.

Alive means that the event loop answers. Ready means that a request sent now would be served, which
a server scaled to zero is.
"""

from collections.abc import Mapping
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.context import Gateway
from gateway.routes.page import page
from gateway.version import VERSION
from gateway.worker_client.interface import ClientSnapshot, WorkerSnapshot
from protocol.control import EngineState

NOT_STORED = {"cache-control": "no-store"}
LIVE_PATHS = ("/livez", "/healthz", "/health/live", "/ping", "/startupz")
READY_PATHS = ("/readyz", "/health/ready", "/v1/health/ready")
ALIVE_PATHS = ("/", "/health", "/status", *LIVE_PATHS)
"""Answered as long as the server runs, also on connections beyond MAX_CONNECTIONS."""
OPEN_PATHS = (*ALIVE_PATHS, *READY_PATHS)
"""Answered without a key and to every origin."""
SPEAKING_FIRST = (
    EngineState.READY,
    EngineState.STARTING,
    EngineState.STOPPING,
    EngineState.BACKING_OFF,
    EngineState.FAILED,
    EngineState.STOPPED,
)
"""Of several workers, the one whose state comes first here speaks for the server."""


class HealthRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=NOT_STORED)

    async def ready(self, request: Request) -> Response:
        """503 with the reason where a request sent now would not be served; `?require=loaded`
        asks for a loaded model as well."""
        snapshot = self._gateway.worker_client.snapshot()
        reason = self._unready_reason(snapshot, request.query_params)
        state = worker_state(snapshot)
        if reason is None:
            return JSONResponse({"status": "ok", "worker": state}, headers=NOT_STORED)
        answer = {"status": "unavailable", "reason": reason, "worker": state}
        return JSONResponse(answer, status_code=503, headers=NOT_STORED)

    async def status(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": VERSION}, headers=NOT_STORED)

    async def health(self, request: Request) -> Response:
        """The predecessor's fields, with more about workers; 200 whatever their state."""
        return JSONResponse(self._health(), headers=NOT_STORED)

    async def root(self, request: Request) -> Response:
        """A page for people, JSON for programs, 200 for load balancers."""
        if "text/html" not in request.headers.get("accept", ""):
            return await self.health(request)
        snapshot = self._gateway.worker_client.snapshot()
        html = page(
            model=self._gateway.settings.served_model,
            note=self._gateway.model_note,
            state=worker_state(snapshot),
            reason=self._unready_reason(snapshot, {}),
            version=VERSION,
        )
        policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(html, headers={**NOT_STORED, **policy})

    def _unready_reason(self, snapshot: ClientSnapshot, query: Mapping[str, str]) -> str | None:
        if self._gateway.is_draining:
            return "the server is shutting down"
        if not snapshot.can_serve:
            return snapshot.reason or "no worker can serve"
        if query.get("require") == "loaded" and not is_loaded(snapshot):
            return "no model is loaded"
        return None

    def _health(self) -> dict[str, object]:
        snapshot = self._gateway.worker_client.snapshot()
        loaded = is_loaded(snapshot)
        return {
            "status": "ok",
            "mode": "gateway",
            "worker_alive": loaded or worker_state(snapshot) == EngineState.STARTING,
            "model_loaded": loaded,
            "model_id": self._gateway.settings.served_model,
            "cuda": None,
            "gpu_name": None,
            "gpu_allocated_mb": None,
            "gpu_reserved_mb": None,
            "version": VERSION,
            "ready": self._unready_reason(snapshot, {}) is None,
            "reason": self._unready_reason(snapshot, {}),
            "queue": snapshot.waiting_requests,
            "live_sessions": snapshot.live_sessions,
            "live_totals": asdict(snapshot.live_totals),
            "workers": [_worker(worker) for worker in snapshot.workers],
        }


def is_loaded(snapshot: ClientSnapshot) -> bool:
    """Whether any worker has a model in memory, ready to work."""
    return any(worker.state == EngineState.READY for worker in snapshot.workers)


def worker_state(snapshot: ClientSnapshot) -> str:
    """One word for all workers; `absent` where none is connected."""
    states = {worker.state for worker in snapshot.workers}
    return next((str(state) for state in SPEAKING_FIRST if state in states), "absent")


def _worker(worker: WorkerSnapshot) -> dict[str, object]:
    return {
        "id": worker.worker_id,
        "state": worker.state,
        "stage": worker.stage or None,
        "done_bytes": worker.done_bytes,
        "total_bytes": worker.total_bytes,
        "last_error": worker.failure,
        "resident_bytes": worker.resident_bytes,
        "running_requests": worker.running_requests,
    }

"""GET /v1/models and /v1/models/{id}: answered from settings, waking nothing."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.context import Gateway
from gateway.errors import ModelNotFound

ALIASES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)
"""Names that clients of OpenAI hard-code. They are found here because transcriptions accept any
name; the list shows only what is really served."""


class ModelRoutes:
    """The handlers, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        served = self._gateway.settings.served_model
        return JSONResponse({"object": "list", "data": [self._model(served)]})

    async def get(self, request: Request) -> Response:
        """The id is the decoded rest of the path: hub ids hold a slash."""
        asked = request.path_params["model_id"]
        if asked != self._gateway.settings.served_model and asked not in ALIASES:
            raise ModelNotFound(
                "This model is not served here. GET /v1/models names the one that is.",
                param="model",
            )
        return JSONResponse(self._model(asked))

    def _model(self, model_id: str) -> dict[str, object]:
        served = self._gateway.settings.served_model
        owner, slash, _ = served.partition("/")
        model: dict[str, object] = {
            "id": model_id,
            "object": "model",
            "created": self._gateway.started_at,
            "owned_by": owner if slash else "qwen3-asr-server",
            "root": served,
        }
        if self._gateway.model_note is not None:
            model["description"] = self._gateway.model_note
        return model

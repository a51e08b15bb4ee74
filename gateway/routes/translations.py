"""POST /v1/audio/translations: refused in words. A text that is not translated is never given."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import BadRequest


async def refuse_translation(request: Request) -> Response:
    """Raises BadRequest; the boundary reads the body first, so that it is heard."""
    raise BadRequest(
        "This server transcribes and does not translate. Send the recording to "
        "/v1/audio/transcriptions to get its text in the language that is spoken.",
        code="unsupported",
    )

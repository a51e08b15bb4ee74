"""GET /openapi.json and GET /docs: files that were written beforehand. They hold nothing of this
server, so no key is asked for, and are read for each request: nobody pays memory for them."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

FOLDER = Path(__file__).resolve().parents[1] / "openapi"
DESCRIPTION = FOLDER / "openapi.json"
PAGE = FOLDER / "page.html"
DOCUMENTATION_PATHS = ("/openapi.json", "/docs")
"""Answered without a key."""
# A newer server's is asked for again.
REVALIDATED = {"cache-control": "no-cache"}
POLICY = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}


async def description(request: Request) -> Response:
    """The API in OpenAPI's terms, for programs."""
    # Some 100 KB of the package's own folder: a thread for it would cost more than the reading.
    return Response(DESCRIPTION.read_bytes(), media_type="application/json", headers=REVALIDATED)


async def page(request: Request) -> Response:
    """The same for people; one document without scripts, which loads nothing."""
    return HTMLResponse(PAGE.read_bytes(), headers={**REVALIDATED, **POLICY})

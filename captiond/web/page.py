"""The web page: it sends images to the API as any client would, and shows the captions."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

STATIC = Path(__file__).parent / "static"


async def page(_: Request) -> Response:
    """Return the web page."""
    return FileResponse(STATIC / "index.html")

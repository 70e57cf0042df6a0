"""The web pages and their files. The pages use the API as any client would."""

import gzip
import mimetypes
import os
import re
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from captiond.web.async_tasks.status_response import matches
from captiond.web.root_path import root_of

STATIC = Path(__file__).parent / "static"
OWN = '"./'  # begins each URL of the pages
# A browser asks before it uses a copy. Modules of two versions would not fit together.
ASK_FIRST = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?=,|$)")


async def page(request: Request) -> Response:
    """Return the page that captions images."""
    return page_response(request, "index.html")


async def docs_page(request: Request) -> Response:
    """Return the page that shows the OpenAPI document."""
    return page_response(request, "docs.html")


def page_response(request: Request, name: str) -> Response:
    """Return a page whose URLs are right for this request."""
    return encoded_response(page_text(name, root_of(request.scope)), "text/html", request.headers)


@cache
def page_text(name: str, root_path: str) -> bytes:
    """Return a page. Its URLs are relative unless a root path is known.

    Relative URLs are right behind a proxy of which captiond knows nothing. They are wrong if the
    page itself is at a path without a slash at its end, which a known root path corrects.
    """
    text = (STATIC / name).read_text("utf-8")
    return (text.replace(OWN, f'"{root_path}/') if root_path else text).encode()


class PageFiles(StaticFiles):
    """Serves the files of the pages, which are small texts."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(
        self,
        full_path: "os.PathLike[str] | str",
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        headers = Headers(scope=scope)
        if "range" in headers:
            response = super().file_response(full_path, stat_result, scope, status_code)
            response.headers.update(ASK_FIRST)
            return response
        content = file_content(os.fspath(full_path), stat_result.st_mtime_ns)
        kind = mimetypes.guess_type(os.fspath(full_path))[0] or "text/plain"
        return encoded_response(content, kind, headers)


@cache
def file_content(path: str, changed: int) -> bytes:
    """Return a file that was last changed at this time, in nanoseconds."""
    return Path(path).read_bytes()


def encoded_response(content: bytes, media_type: str, asked: Headers) -> Response:
    """Return a text, compressed if the client takes that, or 304 if the client has it already."""
    compresses = GZIP.search(asked.get("accept-encoding", "").lower()) is not None
    body, etag = encoded_text(content, compresses)
    headers = {**ASK_FIRST, "ETag": etag}
    if matches(asked.get("if-none-match", ""), etag):
        return NotModifiedResponse(Headers(headers))
    if compresses:
        headers["Content-Encoding"] = "gzip"
    return Response(body, 200, headers, media_type)


@cache
def encoded_text(content: bytes, compresses: bool) -> tuple[bytes, str]:
    """Return a text as it is sent, and its entity tag."""
    body = gzip.compress(content, mtime=0) if compresses else content
    return body, f'"{sha256(body).hexdigest()[:32]}"'

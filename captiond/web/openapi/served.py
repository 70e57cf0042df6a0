"""Handlers that serve the OpenAPI document and its page."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from captiond.web.async_tasks.status_response import matches
from captiond.web.openapi.document import Encoded, encoded_document
from captiond.web.openapi.examples import stored_examples
from captiond.web.operation import Operation


class ServedDocument:
    """The document of an application's operations. It is made when somebody first asks for it."""

    def __init__(self, operations: Sequence[Operation], root_path: str = "") -> None:
        self._operations = operations
        self._root_path = root_path
        self._encoded: Encoded | None = None
        self._making = asyncio.Lock()

    async def encoded(self) -> Encoded:
        """Return the document. It is made in a thread, since that takes a tenth of a second."""
        async with self._making:
            if self._encoded is None:
                self._encoded = await asyncio.to_thread(self._make)
            return self._encoded

    def _make(self) -> Encoded:
        return encoded_document(self._operations, stored_examples(), self._root_path)


async def openapi_document(request: Request) -> Response:
    """Return the OpenAPI document, or 304 if the client has it already."""
    served: ServedDocument = request.app.state.document
    encoded = await served.encoded()
    headers = {"ETag": encoded.etag, "Cache-Control": "no-cache"}
    if matches(request.headers.get("if-none-match", ""), encoded.etag):
        return Response(status_code=304, headers=headers)
    return Response(encoded.content, headers=headers, media_type="application/json")

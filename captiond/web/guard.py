"""The guard of an operation: the key of a request, its scope, and the limits of its client."""

import time
from dataclasses import replace

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from captiond.errors import Forbidden, Unauthorized
from captiond.keys import Key, KeyTable, presented
from captiond.keys import Scope as KeyScope
from captiond.web.admission import Admission, admitted, counted_body
from captiond.web.identity import client_of
from captiond.web.services import Services, services_of


class Guard:
    """Middleware of one operation. It lets a request through that may do what `needed` stands for.

    Without keys, everyone may. The request's client is then its address. With keys, the client is
    the key.
    """

    def __init__(self, app: ASGIApp, needed: KeyScope) -> None:
        self.app = app
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        services, now = services_of(request), time.monotonic()
        limits, share = services.settings.clients.limits, 1.0
        if services.supervisor.keys.required:
            key = self._authorized(request, services, now)
            request.state.key, request.state.client = key, key.client
            limits, share = key.limits.over(limits), key.share
        queues = services.settings.limits
        task_images = within_share(limits.images, share, queues.queued_images)
        limits = replace(limits, images=within_share(limits.images, share, queues.waiting_images))
        with admitted(
            services.usage, client_of(request), limits, now, task_images=task_images
        ) as admission:
            request.state.admission = admission
            length = request.headers.get("content-length", "")
            await self.app(scope, counted_body(admission, length, receive), send)

    def _authorized(self, request: Request, services: Services, now: float) -> Key:
        """Return the key of a request.

        Raises:
            Unauthorized: it has no valid key.
            Forbidden: its key does not permit the operation.
            TooManyRequests: its address has sent too many requests without a valid key.
        """
        try:
            key = find_key(request, services.supervisor.keys)
        except Unauthorized:
            limits = services.settings.clients.limits
            Admission(services.usage, client_of(request), limits, now).count_refused(now)
            raise
        # guard: scopes-are-checked
        if not key.permits(self._needed):
            raise Forbidden(f"the key does not have the scope {self._needed.value}")
        return key


def within_share(images: int | None, share: float, queue: int) -> int:
    """Return how many images of a client may wait in a queue of this length; 0: no limit.

    `images` is the client's limit, `share` the part of the queue that its key may fill.
    """
    limits = [images] if images else []
    if share < 1:
        limits.append(max(1, int(share * queue)))
    return min(limits, default=0)


def find_key(request: Request, keys: KeyTable) -> Key:
    """Return the valid key that a request has.

    Raises:
        Unauthorized: it has none, or several.
    """
    found = presented(request.scope["headers"])
    if not found:
        raise Unauthorized("a key is needed, in Authorization: Bearer or in X-API-Key")
    if len(found) > 1:
        raise Unauthorized("Authorization and X-API-Key have different keys; send one")
    key = keys.find(found.pop())
    if key is None:
        raise Unauthorized("the key is not valid")
    return key


def key_in(request: Request) -> Key | None:
    """Return the key of this request, or None if the service has no keys."""
    key: Key | None = getattr(request.state, "key", None)
    return key

"""The guard of an operation: the key of a request, its scope, and the limits of its client."""

import time

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from captiond.clients import Client
from captiond.errors import Forbidden, Unauthorized
from captiond.keys import Key, KeyTable, presented
from captiond.keys import Scope as KeyScope
from captiond.web.access.admission import Admission, body_length, counted_body
from captiond.web.access.allowances import Allowance
from captiond.web.services import Services


class Guard:
    """Middleware of one operation. It lets a request through that may do what `needed` stands for.

    Without keys, everyone may. The request's client is then its address. With keys, the client is
    the key.
    """

    def __init__(self, app: ASGIApp, needed: KeyScope) -> None:
        self.app = app
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = scope["app"].state.services
        state, now = scope["state"], time.monotonic()
        allowance, key = services.allowances.without_key, None
        if services.supervisor.keys.required:
            key = authenticated(scope, services, now)
            state["key"], state["client"] = key, key.client
            allowance = services.allowances.of(key)
        admission = admission_for(scope, services, allowance)
        state["admission"] = admission
        length = body_length(scope, allowance.limits)
        admission.begin(now)
        try:
            admission.hold_body(length or 0)
            # guard: scopes-are-checked
            if key is not None and not key.permits(self._needed):
                raise Forbidden(f"the key does not have the scope {self._needed.value}")
            await self.app(scope, counted_body(admission, length, receive), send)
        finally:
            admission.end()


def authenticated(scope: Scope, services: Services, now: float) -> Key:
    """Return the key of a request.

    Raises:
        Unauthorized: it has no valid key.
        TooManyRequests: its address has sent too many requests without a valid key.
    """
    try:
        return find_key(scope, services.supervisor.keys)
    except Unauthorized:
        allowance = services.allowances.without_key
        admission_for(scope, services, allowance).count_refused(now)
        raise


def admission_for(scope: Scope, services: Services, allowance: Allowance) -> Admission:
    """Return an admission for the client of a request."""
    client: Client = scope["state"]["client"]
    return Admission(services.usage, client, allowance.limits, allowance.task_images)


def find_key(scope: Scope, keys: KeyTable) -> Key:
    """Return the valid key that a request has.

    Raises:
        Unauthorized: it has none, or several.
    """
    found = presented(scope["headers"])
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
    key: Key | None = request.scope["state"].get("key")
    return key

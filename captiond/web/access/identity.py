"""Who a request is from. `Identify` determines the client once, and handlers read it."""

import secrets
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from captiond.clients import Client, Proxies, address_name, forwarded, forwarded_for
from captiond.settings.server_settings import ServerSettings
from captiond.web.connections.http1 import CONNECTION_ID

HOPS: dict[str, Callable[[str], list[str]]] = {
    "x-forwarded-for": forwarded_for,
    "forwarded": forwarded,
}


class Identify:
    """Middleware that notes the client of a request in its state."""

    def __init__(self, app: ASGIApp, server: ServerSettings) -> None:
        self.app = app
        self._proxies = Proxies.parse(server.trusted_proxies)
        self._header = server.proxy_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["client"] = self._client(scope)
        await self.app(scope, receive, send)

    def _client(self, scope: Scope) -> Client:
        """Return the client by its address, or by its connection if it has no IP address."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        if self._proxies.networks and self._proxies.trust(peer):
            value = ",".join(Headers(scope=scope).getlist(self._header))
            peer = self._proxies.origin(peer, HOPS[self._header](value))
        return Client(address_name(peer) or connection_name(scope))


def connection_name(scope: Scope) -> str:
    """Return the name of the client that is known only by its connection."""
    return f"connection:{scope['state'].get(CONNECTION_ID) or secrets.token_hex(8)}"


def client_of(request: Request) -> Client:
    """Return the client that this request is from."""
    client: Client = request.state.client
    return client

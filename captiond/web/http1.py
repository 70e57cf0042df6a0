"""HTTP/1.1 is the only protocol that a web process speaks.

Hypercorn switches to HTTP/2 on every cleartext connection that asks for it, by its first bytes or
by `Upgrade: h2c`, and has no setting to prevent it. HTTP/2 would bypass the rules of a proxy in
front of captiond. An HTTP/2 request that arrives during a drain stops all of Hypercorn 0.18.
"""

import secrets

import h11
import hypercorn.protocol
from hypercorn.protocol.h11 import H11Protocol

CONNECTION_ID = "connection_id"  # its key in the state of each request's scope


class Http1Protocol(H11Protocol):
    """A connection that never changes its protocol, and that has a unique id."""

    async def initiate(self) -> None:
        """Give the connection its id, which tells requests without an address apart."""
        await super().initiate()
        self.connection_state[CONNECTION_ID] = secrets.token_hex(8)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass


def disable_http2() -> None:
    """Let all later connections of this process use HTTP/1.1."""
    vars(hypercorn.protocol)["H11Protocol"] = Http1Protocol

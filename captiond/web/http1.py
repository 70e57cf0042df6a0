"""HTTP/1.1 and nothing else.

Hypercorn goes over to HTTP/2 on every cleartext connection that asks for it, by its first bytes or
by `Upgrade: h2c`. That leads past the rules of a proxy in front; and Hypercorn 0.18 ends the whole
server over an HTTP/2 request that comes while it drains. It has no setting against it.
"""

import h11
import hypercorn.protocol
from hypercorn.protocol.h11 import H11Protocol


class Http1(H11Protocol):
    """A connection that stays what it is."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass


def allow_http1_alone() -> None:
    """For every connection of this process from now on."""
    vars(hypercorn.protocol)["H11Protocol"] = Http1

"""What captiond takes from Hypercorn is still there."""

from typing import Any

import hypercorn.protocol.h11
from hypercorn.protocol.http_stream import HTTPStream

from captiond.web.connections.http1 import Http1Protocol


def test_hypercorn_has_what_is_overridden_and_called() -> None:
    """These names are not a public interface. A new version may change them."""
    base: Any = hypercorn.protocol.h11.H11Protocol
    overridden = {name for name in vars(Http1Protocol) if callable(vars(base).get(name))}
    assert overridden == {
        "__init__",
        "handle",
        "stream_send",
        "_handle_events",
        "_create_stream",
        "_maybe_recycle",
    }
    assert {"_send_h11_event", "_close_stream"} <= set(vars(base))
    assert {"handle", "app_send"} <= set(vars(HTTPStream))

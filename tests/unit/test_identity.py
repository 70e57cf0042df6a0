"""The client of a request, as handlers read it."""

import re

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from captiond.settings.server_settings import ServerSettings
from captiond.web.access.identity import Identify, client_of

pytestmark = pytest.mark.anyio


async def name_of(
    server: ServerSettings, address: tuple[str, int] | None, *headers: tuple[str, str]
) -> str:
    """Return the name of the client of a request from `address`."""
    names = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        names.append(client_of(Request(scope)).name)
        await PlainTextResponse("")(scope, receive, send)

    async def receive() -> Message:
        raise AssertionError("the body is not read")

    async def send(_: Message) -> None:
        pass

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "client": address, "headers": raw, "state": {"connection_id": "c1"}}
    await Identify(app, server)(scope, receive, send)
    return names[0]


PEER = ("10.0.0.1", 5000)
FORWARDED_FOR = ("x-forwarded-for", "192.0.2.1")
FORWARDED = ("forwarded", "for=192.0.2.2")


async def test_nothing_is_trusted_by_default() -> None:
    assert await name_of(ServerSettings(), PEER, FORWARDED_FOR, FORWARDED) == "address:10.0.0.1"


async def test_a_trusted_proxy_reports_the_address_in_the_header_of_the_settings() -> None:
    server = ServerSettings(trusted_proxies=("10.0.0.0/8",))
    assert await name_of(server, PEER, FORWARDED_FOR, FORWARDED) == "address:192.0.2.1"
    assert await name_of(server, PEER, FORWARDED) == "address:10.0.0.1"
    first = ("x-forwarded-for", "203.0.113.9")
    assert await name_of(server, PEER, first, FORWARDED_FOR) == "address:192.0.2.1"
    other = ServerSettings(trusted_proxies=("10.0.0.1",), proxy_header="forwarded")
    assert await name_of(other, PEER, FORWARDED_FOR, FORWARDED) == "address:192.0.2.2"


async def test_without_an_address_the_connection_is_the_client() -> None:
    assert await name_of(ServerSettings(), None) == "connection:c1"
    assert await name_of(ServerSettings(), ("/run/c.sock", 0)) == "connection:c1"


def test_a_proxy_that_is_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape("'10.0.0.300' does not appear")):
        ServerSettings(trusted_proxies=("10.0.0.300",))

"""The socket of the service: which addresses it takes, and what is printed for people."""

import errno
import socket

import pytest

from captiond.authority import address_of, host_text, local_url
from captiond.errors import StartupError
from captiond.settings.server_settings import ServerSettings
from captiond.supervisor.listening import cure, listening
from tests.patience import PATIENCE


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("192.168.1.7", "http://192.168.1.7:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("2001:db8::7", "http://[2001:db8::7]:80"),
        ("::ffff:127.0.0.1", "http://[::ffff:127.0.0.1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
    ],
)
def test_the_printed_url_can_be_opened(address: str, url: str) -> None:
    assert local_url(address, 80) == url


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%eth0"])
def test_a_program_of_this_machine_connects_to_that_address(address: str) -> None:
    assert address_of(local_url(address, 8080)) == (address, 8080)


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("localhost", ("127.0.0.1",)),
        ("0.0.0.0", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("[::1]", ("::1",)),
        ("::", ("::1", "127.0.0.1")),
        ("::ffff:127.0.0.1", ("127.0.0.1",)),
    ],
)
def test_an_address_is_reached_where_it_should_be(host: str, reached: tuple[str, ...]) -> None:
    if ":" in host and not can_bind("::1"):
        pytest.skip("this machine has no IPv6")
    with listening(ServerSettings(host=host, port=0)) as listener:
        port = listener.getsockname()[1]
        assert all(connects(address, port) for address in reached)
        if host in {"127.0.0.1", "localhost", "0.0.0.0"}:
            assert not connects("::1", port)


def can_bind(address: str) -> bool:
    try:
        socket.create_server((address, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_an_address_that_cannot_be_used_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert message(ServerSettings(port=port)) == (
            f"127.0.0.1:{port}: cannot listen there: Address already in use; stop what uses this "
            "port, or choose another with --port"
        )
    # An address of the documentation (RFC 5737, RFC 3849), which no machine has.
    for host in ("192.0.2.1", "2001:db8::1"):
        found = message(ServerSettings(host=host, port=80))
        assert found.startswith(f"{host_text(host)}:80: cannot listen there: ")
        assert "choose an address of this machine" in found
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = message(ServerSettings(host="no.such.name", port=80))
    assert found.startswith("no.such.name:80: cannot listen there: Name or service not known; ")
    assert "CAP_NET_BIND_SERVICE" in cure(PermissionError(errno.EACCES, "Permission denied"))


def refuse(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def message(server: ServerSettings) -> str:
    with pytest.raises(StartupError) as caught, listening(server):
        pass
    return str(caught.value)

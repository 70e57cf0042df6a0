"""`captiond check` on addresses that the service cannot listen at. Each message is followed."""

import socket
from pathlib import Path

import pytest

from captiond.supervisor.lock import locked
from tests.unit.test_broken_setups import problem, result, said_to_nobody, settings_with
from tests.unit.test_datafolder import as_root

FIRST_FREE_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def test_a_port_that_another_program_uses(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = settings_with(tmp_path, server={"port": port})
        message = problem(settings, "address")
        assert message == (
            f"127.0.0.1:{port}: cannot listen there: Address already in use; stop what uses this "
            "port, or choose another with --port"
        )
        settings.address_file.write_text(f"http://127.0.0.1:{port}\n", "ascii")
        assert problem(settings, "address") == message, "the service that wrote this has ended"
    assert result(settings, "address") == f"127.0.0.1:{port} is free"


def test_a_port_that_the_service_itself_uses(tmp_path: Path) -> None:
    """The check is a way to look at a service that runs."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        settings = settings_with(tmp_path, server={"host": "localhost", "port": port})
        url = f"http://127.0.0.1:{port}"
        settings.address_file.write_text(f"{url}\n", "ascii")
        with locked(tmp_path):
            assert (
                result(settings, "address") == f"the service of this data folder listens at {url}"
            )


@as_root
@pytest.mark.skipif(
    int(FIRST_FREE_PORT.read_text()) <= 1, reason="here every user may use every port"
)
def test_a_port_that_this_user_may_not_use(tmp_path: Path) -> None:
    message = said_to_nobody(settings_with(tmp_path, server={"port": 1}), "address")
    assert message == (
        "127.0.0.1:1: cannot listen there: Permission denied; choose a port from 1024 on with "
        "--port, or give the service CAP_NET_BIND_SERVICE"
    )


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, server={"host": "192.0.2.1", "port": 0})
    assert "choose an address of this machine with --host" in problem(settings, "address")
    right = settings_with(tmp_path, server={"host": "0.0.0.0", "port": 0})
    assert result(right, "address") == "0.0.0.0:0 is free"

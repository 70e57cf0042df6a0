"""The socket of the service: it is bound before the processes start, and all of them share it."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from captiond.authority import host_text
from captiond.errors import StartupError
from captiond.settings.server_settings import ServerSettings

BACKLOG = 1024
UNREAD_MS = 120_000  # a connection is closed when the client takes nothing of an answer for so long


@contextlib.contextmanager
def listening(server: ServerSettings) -> Iterator[socket.socket]:
    """Listen on the address of the settings while the block runs.

    Raises:
        StartupError: the address cannot be used.
    """
    with bound(server) as listener:
        listener.listen(BACKLOG)
        yield listener


def bound(server: ServerSettings) -> socket.socket:
    """Return a socket that is bound to the address of the settings.

    Raises:
        StartupError: the address cannot be used.
    """
    try:
        family, address = resolved(server.host, server.port)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            set_options(listener)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise StartupError(
            f"{host_text(server.host)}:{server.port}: cannot listen there: {error.strerror}; "
            f"{cure(error)}"
        ) from error
    return listener


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the family of a host, and its address as `bind` takes it.

    A name with addresses of both families stands for that of IPv4.

    Raises:
        OSError: the name has no address.
    """
    flags = socket.AI_PASSIVE  # without it, a name that means all addresses would mean this machine
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def set_options(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit this: a client that never reads its answer is disconnected.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    if listener.family == socket.AF_INET6:  # :: takes both families, whatever the machine's default
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def cure(error: OSError) -> str:
    """Return what a person can do about an address that cannot be used."""
    if error.errno == errno.EADDRINUSE:
        return "stop what uses this port, or choose another with --port"
    if error.errno == errno.EACCES:
        return "choose a port from 1024 on with --port, or give the service CAP_NET_BIND_SERVICE"
    return "choose an address of this machine with --host; 0.0.0.0 is all of them"

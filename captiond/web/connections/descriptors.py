"""File descriptors of a web process: their limit, and how many connections they allow."""

import resource

WANTED = 65536  # descriptors, if the machine allows so many
RESERVED = 128  # for the database, the pipes, the log and the files of libraries
PER_CONNECTION = 2  # the socket, and the spool file of an upload


def raise_limit() -> int:
    """Raise the limit on open files of this process as far as it may. Return the new limit.

    systemd starts services with a limit of 1,024, since select(2) knows no descriptor above it.
    captiond does not use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return WANTED if soft == resource.RLIM_INFINITY else soft


def connections_for(descriptors: int, wanted: int) -> int:
    """Return how many connections may be open: `wanted`, or as many as the descriptors allow."""
    return max(1, min(wanted, (descriptors - RESERVED) // PER_CONNECTION))

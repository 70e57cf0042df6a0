"""Calls of servers on this machine, such as a collector of traces or an object storage."""

from collections.abc import MutableMapping

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
EXCEPTIONS = ("no_proxy", "NO_PROXY")  # libraries differ in which one they read first
LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")  # not all libraries read networks
EVERYWHERE = "*"


def call_loopback_directly(environ: MutableMapping[str, str]) -> None:
    """Except the addresses of this machine from the proxies of the environment, if there are any.

    A proxy would call its own loopback address. Many libraries leave that to the variables.
    """
    if not any(environ.get(name) or environ.get(name.upper()) for name in PROXIES):
        return
    known = [environ.get(name, "") for name in EXCEPTIONS]
    for name, value, other in zip(EXCEPTIONS, known, reversed(known), strict=True):
        entries = [entry.strip() for entry in (value or other).split(",") if entry.strip()]
        if EVERYWHERE not in entries:
            environ[name] = ",".join(dict.fromkeys((*entries, *LOOPBACK)))

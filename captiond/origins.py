"""Which web pages may use the service. The rules are here, without I/O.

A page of another site can make the browser of its visitor send requests to captiond, also if only
this visitor can reach it. There are two ways, and a rule against each:

- The page sends a form to captiond (cross-site request forgery). Calls that change something are
  refused if the browser says that a page of another origin sends them. The algorithm is that of
  `CrossOriginProtection` in Go's net/http: it needs no token, and a client that is no browser
  sends neither of the two headers.
- The page's own host name is made to resolve to captiond's address (DNS rebinding), so that the
  browser takes captiond for the page's server, and lets the page read answers. A request must
  therefore name a host that nobody else can own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from captiond.authority import Authority, parse_authority
from captiond.errors import HostNotAllowed, OriginNotAllowed

ANY = "*"
# Nobody can register a name under these. RFC 6761: localhost. RFC 6762: local, and the other names
# of its appendix G, which home and company networks use. RFC 8375: home.arpa.
PRIVATE_SUFFIXES = (
    ".localhost", ".local", ".home.arpa", ".internal", ".intranet", ".private", ".corp", ".home",
    ".lan",
)  # fmt: skip
READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})  # Sec-Fetch-Site; "none" is the user's own doing
DEFAULT_PORTS = {"http": 80, "https": 443}
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<place>[^/?#@\s\\]+)")
SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")  # what RFC 3986 calls unreserved
SHOWN = 255  # characters of a header that an error shows


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says about where it comes from: the values of its headers, or None."""

    method: str
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None


@dataclass(frozen=True, slots=True)
class PageRules:
    """The host names of the service, and the origins whose pages may use it. `*` is any."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, hosts: Iterable[str], origins: Iterable[str]) -> "PageRules":
        """Return the rules for these entries of the settings."""
        return cls(frozenset(map(str.lower, hosts)), frozenset(map(str.lower, origins)))

    def check(self, caller: Caller) -> None:
        """Return if the request may be served.

        Raises:
            HostNotAllowed: its host is a name that is not the service's.
            OriginNotAllowed: a page of another origin tries to change something.
        """
        # guard: own-hosts-only
        self.check_host(caller.host)
        if caller.method not in READING and is_foreign(caller):
            self.check_origin(caller)

    def check_host(self, host: str | None) -> None:
        """Return if the service has this host. A client that names none is no browser."""
        if host is None or ANY in self.hosts:
            return
        try:
            place = parse_authority(host)
        except ValueError:
            place = None
        if place is None or not (is_unownable(place) or place.host in self.hosts):
            raise HostNotAllowed(
                f"this service has no host {host[:SHOWN]!r}; if it should have, add the name to "
                "[server] hosts"
            )

    def check_origin(self, caller: Caller) -> None:
        """Return if pages of the request's origin may use the service."""
        # guard: own-origins-only
        if not self.allows(caller.origin):
            page = f"a page of {caller.origin[:SHOWN]!r}" if caller.origin else "another site"
            raise OriginNotAllowed(
                f"{page} may not use this service; if it should, add its origin to "
                "[server] cors_origins"
            )

    def allows(self, origin: str | None) -> bool:
        """Return whether the settings name this origin."""
        return ANY in self.origins or (origin is not None and origin.lower() in self.origins)


def is_unownable(place: Authority) -> bool:
    """Return whether no other site can have this host.

    That is an address, because a browser that shows it in a page's origin has looked up no name,
    a name without a dot, and a name of a private network.
    """
    return place.is_address or "." not in place.host or place.host.endswith(PRIVATE_SUFFIXES)


def is_foreign(caller: Caller) -> bool:
    """Return whether a browser says that a page of another origin sends the request."""
    if caller.fetch_site is not None:
        return caller.fetch_site not in OWN_SITES
    return caller.origin is not None and not is_same(caller.origin, caller.host)


def is_same(origin: str, host: str | None) -> bool:
    """Return whether an origin has the host and the port of a Host header.

    The schemes may differ: a proxy may have received the request over TLS.
    """
    match = ORIGIN.fullmatch(origin.lower())
    if match is None or host is None:
        return False
    default = DEFAULT_PORTS.get(match["scheme"])
    try:
        ours, theirs = parse_authority(host), parse_authority(match["place"])
    except ValueError:
        return False
    return (ours.host, ours.port or default) == (theirs.host, theirs.port or default)


# ---------------------------------------------------------------- entries of the settings


def root_path_of(text: str) -> str:
    """Return the path under which a proxy serves captiond, without a slash at its end.

    Raises:
        ValueError: it is not a path that every proxy and browser writes in the same way.
    """
    path = text.strip().rstrip("/")
    segments = path.split("/")[1:]
    # guard: plain-root-path
    if path and not (path[0] == "/" and all(map(is_plain_segment, segments))):
        raise ValueError(
            f"{text!r}: must be a path such as /captions, of letters, digits, '-', '.', '_' and '~'"
        )
    return path


def is_plain_segment(segment: str) -> bool:
    """Return whether a part of a path stands for itself. `.` and `..` do not."""
    return SEGMENT.fullmatch(segment) is not None and segment.strip(".") != ""


def check_host_entry(entry: str) -> None:
    """Check an entry of `[server] hosts`.

    Raises:
        ValueError: it is neither a host name nor *.
    """
    if entry != ANY and (":" in entry or not is_host(entry)):
        raise ValueError(f"{entry!r}: must be a host name without scheme and port, or *")


def is_host(text: str) -> bool:
    try:
        parse_authority(text)
    except ValueError:
        return False
    return True


def check_origin_entry(entry: str) -> None:
    """Check an entry of `[server] cors_origins`.

    Raises:
        ValueError: it is neither an origin nor *. `null` is refused, because every page in a
            sandbox has this origin.
    """
    if entry != ANY and ORIGIN.fullmatch(entry.lower()) is None:
        raise ValueError(
            f"{entry!r}: must be an origin such as https://photos.example.com, without a path, or *"
        )

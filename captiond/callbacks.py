"""The rules of webhooks, without I/O: which URLs may be called, and when a failed call is repeated.

The web process checks a `callback_url` when a request names it, and `captiond import` that of its
flag. The supervisor checks it again before each call. All use the parser in this module, so that
they cannot read a URL differently.
"""

from base64 import b64decode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from captiond.authority import Authority, parse_authority
from captiond.backoff import backoff

MAX_URL = 2000
SIGNING_PREFIX = "whsec_"  # of a secret of Standard Webhooks
PORTS = {"https": 443, "http": 80}
# Each delay is five times the one before. The default settings give 5 s, 25 s, 2 min, 10 min,
# 52 min, 4 h, 22 h, and then one day each.
BACKOFF = 5.0
# A delay is shortened or lengthened at random by up to this share, so that calls that failed
# together are not repeated together.
JITTER = 0.2


class BadUrl(ValueError):
    """captiond does not call this URL; the message says why."""


class DeliveryStatus(StrEnum):
    """The state of a delivery: it waits for its next attempt, was accepted, or was given up."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL. `host` is in lower case; an IPv6 address has no brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def parse_url(url: str) -> Target:
    """Return the parts of a `callback_url`.

    Raises:
        BadUrl: The URL is not an http or https URL, or it has a part that is refused: credentials,
            a fragment, a backslash, spaces, control characters, or characters outside ASCII.
    """
    if len(url) > MAX_URL:
        raise BadUrl(f"a callback URL must have at most {MAX_URL} characters")
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise BadUrl("a callback URL must have printable ASCII characters only, and no spaces")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadUrl(f"not a URL: {error}") from None
    if parts.scheme not in PORTS or not parts.netloc:
        raise BadUrl("a callback URL must begin with https:// or http:// and a host")
    if "@" in parts.netloc or "\\" in url or "#" in url:
        raise BadUrl("a callback URL must have no user name, no backslash and no fragment")
    try:
        place = parse_authority(parts.netloc)
    except ValueError as error:
        raise BadUrl(f"not a URL: {parts.netloc!r}: {error}") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = PORTS[parts.scheme] if place.port is None else place.port
    return Target(parts.scheme, place.host, port, path)


def parse_allowed(entry: str) -> Authority:
    """Parse an entry of `[webhooks] allow`. Without a port, every port of the host is allowed.

    An entry is such as `host`, `host:port`, `10.0.0.5` or `[::1]:8080`.

    Raises:
        BadUrl: The entry does not have this form.
    """
    try:
        allowed = parse_authority(entry)
    except ValueError:
        allowed = None
    if allowed is None or entry.endswith(":"):
        raise BadUrl(f"{entry!r}: must be a host or host:port, without https://, a path or *")
    return allowed


def is_allowed(target: Target, entries: Iterable[str]) -> bool:
    """Return whether an entry names the host of `target`, and no port or the same port."""
    allowed = (parse_allowed(entry) for entry in entries)
    return any(entry.host == target.host and entry.port in {None, target.port} for entry in allowed)


def check_callback_url(url: str, entries: Collection[str]) -> None:
    """Return if captiond may call this URL; `entries` are those of `[webhooks] allow`.

    Raises:
        BadUrl: webhooks are off, the text is not a URL, or no entry lists its host.
    """
    if not entries:
        raise BadUrl("webhooks are off: [webhooks] allow lists no host")
    target = parse_url(url)
    if not is_allowed(target, entries):
        raise BadUrl(f"the host {target.authority} is not in [webhooks] allow")


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How often a delivery is tried, and how long it waits between attempts.

    `first` is the delay after the first attempt and `longest` is the upper limit, both in seconds.
    """

    attempts: int
    first: float
    longest: float


def delay_after(
    attempt: int, policy: RetrySchedule, *, jitter: float, retry_after: float = 0.0
) -> float | None:
    """Return the seconds until a delivery is tried again, or None if it is given up.

    `attempt` is the number of the attempt that failed, from 1. `jitter` is a random number between
    -1 and 1. `retry_after` is the receiver's Retry-After in seconds. It can lengthen the delay, up
    to the longest one, but not shorten it.
    """
    if attempt >= policy.attempts:
        return None
    delay = planned_delay(attempt, policy)
    return max(delay * (1 + JITTER * jitter), min(retry_after, policy.longest))


def planned_delay(attempt: int, policy: RetrySchedule) -> float:
    """Return the delay after the failed `attempt` in seconds, without jitter."""
    return backoff(attempt, first=policy.first, longest=policy.longest, factor=BACKOFF)


def longest_life(policy: RetrySchedule, *, try_seconds: float) -> float:
    """Return the seconds from the start of the first attempt to the end of the last one.

    Each delay and each attempt takes as long as it can, and none begins late. A receiver's
    Retry-After is not included.
    """
    delays = sum(planned_delay(attempt, policy) for attempt in range(1, policy.attempts))
    return delays * (1 + JITTER) + policy.attempts * try_seconds


def check_signing_secret(secret: str) -> None:
    """Check that `secret` has the form that Standard Webhooks defines.

    Raises:
        ValueError: it is not whsec_ and 24 to 64 bytes in base64.
    """
    try:
        key = b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(SIGNING_PREFIX) and 24 <= len(key) <= 64):
        raise ValueError(f"must be {SIGNING_PREFIX} and 24 to 64 random bytes in base64")

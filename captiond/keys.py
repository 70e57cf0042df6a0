"""Keys of clients: how they are made, stored, and found again.

A key is 256 random bits, so that its SHA-256 is enough to store: nobody can guess a key from it,
however fast the hash is. A slow hash is for passwords, which people choose, and would let anyone
burn processor time with wrong keys.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from captiond.clients import KEY, Client

PREFIX = "cpd_"  # scanners for secrets recognise a key of captiond by it
HASH_PREFIX = "sha256:"  # of a key that is written as its hash
MIN_SECRET = 32  # characters of a key that somebody has made
SECRET_BYTES = 32


class Scope(StrEnum):
    """What a key permits. ADMIN permits everything, with the tasks of all clients."""

    CAPTION = "caption"
    READ = "read"
    METRICS = "metrics"
    ADMIN = "admin"


DEFAULT_SCOPES = (Scope.CAPTION, Scope.READ)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one client. 0 is no limit; None is the default of `[clients]`.

    `requests` is the number of requests in a window of `[clients] window_seconds`. `concurrent` is
    the number of requests, `images` the number of waiting images, and `body_bytes` the number of
    bytes of request bodies, each at the same time.
    """

    requests: int | None = None
    concurrent: int | None = None
    images: int | None = None
    body_bytes: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """Return these limits, with `defaults` in place of those that are None."""
        return Limits(
            self.requests if self.requests is not None else defaults.requests,
            self.concurrent if self.concurrent is not None else defaults.concurrent,
            self.images if self.images is not None else defaults.images,
            self.body_bytes if self.body_bytes is not None else defaults.body_bytes,
        )

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any((self.requests, self.concurrent, self.images, self.body_bytes))


@dataclass(frozen=True, slots=True)
class Key:
    """A key. `digest` is its SHA-256, 32 bytes.

    `weight` is the client's weight in fair turns. `share` is the share of the queues that its
    images may fill.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope] = frozenset(DEFAULT_SCOPES)
    weight: float = 1.0
    share: float = 1.0
    limits: Limits = Limits()

    @property
    def id(self) -> str:
        """The first 64 bits of the hash. They do not help to guess the key."""
        return self.digest[:8].hex()

    @property
    def client(self) -> Client:
        """The client whose requests have this key."""
        return Client(KEY + self.id, self.weight)

    def permits(self, scope: Scope) -> bool:
        """Return whether the key permits what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class KeyTable:
    """The keys that are valid now. `required` says whether a request must have one."""

    def __init__(self, keys: Iterable[Key] = (), *, required: bool = False) -> None:
        self.required = required
        self._keys: dict[bytes, Key] = {}
        for key in keys:
            self._keys.setdefault(key.digest[:8], key)

    def find(self, secret: bytes) -> Key | None:
        """Return the valid key with these bytes, or None.

        The time depends on the hash of what the client sent, not on how much of a key it has
        guessed. The hashes are compared in constant time.
        """
        digest = digest_of(secret)
        key = self._keys.get(digest[:8])
        # guard: keys-are-compared
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        return key


def new_secret() -> str:
    """Return a new key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: bytes) -> bytes:
    """Return the hash of a key, 32 bytes."""
    return hashlib.sha256(secret).digest()


def parse_key(text: str) -> bytes:
    """Return the hash of a key that is written as itself or as `sha256:` and its hash in hex.

    Raises:
        ValueError: the hash is malformed, or the key is too short to be random. The message does
            not contain the key.
    """
    if text.startswith(HASH_PREFIX):
        return parse_hash(text.removeprefix(HASH_PREFIX))
    if len(text) < MIN_SECRET or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(
            f"a key has at least {MIN_SECRET} printable ASCII characters; make it with: captiond "
            "keys create"
        )
    return digest_of(text.encode())


def parse_hash(text: str) -> bytes:
    """Return the bytes of a hash in hex. Raises ValueError if it is malformed."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(f"{HASH_PREFIX} needs the 64 hex digits of a SHA-256 hash")
    return digest


def presented(headers: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the keys in the headers of a request: in `Authorization: Bearer` and `X-API-Key`.

    `headers` have names in lower case. Other schemes of `Authorization` are ignored: they may be
    meant for a proxy.
    """
    found = set()
    for name, value in headers:
        if name == b"x-api-key":
            found.add(value.strip())
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                found.add(token.strip())
    return found - {b""}

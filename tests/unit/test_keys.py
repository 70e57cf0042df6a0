"""Keys: their form, how a request presents them, and that nobody guesses one."""

import itertools
import random

import pytest

from captiond.keys import (
    HASH_PREFIX,
    Key,
    KeyTable,
    Limits,
    Scope,
    digest_of,
    new_secret,
    parse_key,
    presented,
)

GUESSES = 1_000_000


def key_of(secret: str, name: str = "k", *scopes: Scope) -> Key:
    return Key(name, digest_of(secret.encode()), scopes=frozenset(scopes))


def test_a_key_is_found_by_its_bytes() -> None:
    secrets = [new_secret() for _ in range(100)]
    assert len(set(secrets)) == 100
    table = KeyTable((key_of(secret, secret) for secret in secrets), required=True)
    for secret in secrets:
        found = table.find(secret.encode())
        assert found is not None
        assert found.name == secret


def nearly(secret: bytes) -> list[bytes]:
    """Return what is nearly a key: parts of it, one bit changed, its hash, other spellings."""
    parts = [secret[:n] for n in range(len(secret))]
    flipped = [
        bytes([*secret[:at], secret[at] ^ (1 << bit), *secret[at + 1 :]])
        for at, bit in itertools.product(range(len(secret)), range(8))
    ]
    hashes = [digest_of(secret), digest_of(secret).hex().encode(), digest_of(secret)[:8]]
    named = [HASH_PREFIX.encode() + value for value in hashes]
    return [*parts, *flipped, *hashes, *named, secret + b"\0", secret + b" ", secret.upper(), b""]


def test_a_million_guesses_find_no_key() -> None:
    """Random keys, bytes beyond ASCII, and everything that is nearly a key."""
    secrets = [new_secret().encode() for _ in range(100)]
    table = KeyTable((key_of(secret.decode()) for secret in secrets), required=True)
    close = [guess for secret in secrets for guess in nearly(secret)]
    rng = random.Random(16)
    wild = (rng.randbytes(rng.randrange(64)) for _ in range(GUESSES // 2))
    made = (b"cpd_" + rng.randbytes(32).hex().encode() for _ in range(GUESSES // 2))
    guesses = itertools.chain(close, wild, made)
    assert [guess for guess in guesses if table.find(guess)] == []


def test_a_hash_that_only_begins_like_that_of_a_key_is_not_the_key() -> None:
    """A table finds a key by the first bytes of its hash, and then compares all of it."""
    secret = new_secret().encode()
    digest = digest_of(secret)
    other = Key("other", digest[:8] + bytes(24))
    assert KeyTable([other]).find(secret) is None


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], set()),
        ([(b"authorization", b"Bearer abc")], {b"abc"}),
        ([(b"authorization", b"bearer   abc ")], {b"abc"}),
        ([(b"x-api-key", b" abc ")], {b"abc"}),
        ([(b"authorization", b"Basic dXNlcjpwdw=="), (b"x-api-key", b"abc")], {b"abc"}),
        ([(b"authorization", b"Bearer abc"), (b"x-api-key", b"abc")], {b"abc"}),
        ([(b"authorization", b"Bearer abc"), (b"x-api-key", b"def")], {b"abc", b"def"}),
        ([(b"authorization", b"Bearer"), (b"x-api-key", b"")], set()),
        ([(b"x-api-key", "schlüssel".encode("latin-1"))], {b"schl\xfcssel"}),
    ],
)
def test_a_key_is_presented_in_two_headers(
    headers: list[tuple[bytes, bytes]], keys: set[bytes]
) -> None:
    assert presented(headers) == keys


def test_a_key_is_written_as_itself_or_as_its_hash() -> None:
    secret = new_secret()
    digest = digest_of(secret.encode())
    assert parse_key(secret) == parse_key(HASH_PREFIX + digest.hex()) == digest


@pytest.mark.parametrize(
    "text",
    ["", "short", "x" * 31, "\u00fc" * 40, " " * 40, "sha256:", "sha256:12", "sha256:" + "g" * 64],
)
def test_a_key_that_people_would_choose_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"at least 32|64 hex digits"):
        parse_key(text)


def test_admin_permits_everything() -> None:
    for scope in Scope:
        assert key_of("a", "k", Scope.ADMIN).permits(scope)
        assert key_of("a", "k", scope).permits(scope)
    assert not key_of("a", "k", Scope.READ).permits(Scope.CAPTION)


def test_a_limit_that_a_key_does_not_have_is_the_default() -> None:
    assert Limits(1, None, 0).over(Limits(2, 3, 4, 5)) == Limits(1, 3, 0, 5)
    assert not Limits(0, None, 0)
    assert Limits(0, None, 1)


def test_a_key_does_not_show_its_hash() -> None:
    key = key_of(new_secret())
    assert key.digest.hex() not in repr(key)
    assert repr(key.digest) not in repr(key)

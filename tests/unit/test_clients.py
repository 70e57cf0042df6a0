"""Who a request is from: addresses, networks, and what trusted proxies report."""

import pytest

from captiond.clients import Proxies, address_name, forwarded, forwarded_for, parse_address

PROXIES = Proxies.parse(["10.0.0.0/8", "2001:db8:ffff::1"])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "address:192.0.2.1"),
        ("::ffff:192.0.2.1", "address:192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "address:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address:fe80::/64"),
        ("/run/captiond.sock", None),
        ("", None),
        ("192.0.2", None),
    ],
)
def test_a_client_is_an_address_or_a_network(host: str, name: str | None) -> None:
    assert address_name(host) == name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("unknown", "None"),
        ("_hidden", "None"),
        ("192.0.2.1:443:1", "None"),
    ],
)
def test_an_address_may_have_a_port(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    ("peer", "header", "origin"),
    [
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        # Whatever a client sends stands before what the proxies append.
        ("10.0.0.1", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "10.9.9.9, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
        ("2001:db8:ffff::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.99", "203.0.113.9", "192.0.2.99"),  # no trusted proxy
        ("2001:db8:ffff::2", "203.0.113.9", "2001:db8:ffff::2"),
    ],
)
def test_only_what_trusted_proxies_append_is_taken(peer: str, header: str, origin: str) -> None:
    assert PROXIES.origin(peer, forwarded_for(header)) == origin


@pytest.mark.parametrize(
    ("header", "hops"),
    [
        ("for=192.0.2.1", ["192.0.2.1"]),
        ('For="[2001:db8::1]:4711"', ["[2001:db8::1]:4711"]),
        ("for=192.0.2.1;proto=http;by=203.0.113.43, for=10.0.0.1", ["192.0.2.1", "10.0.0.1"]),
        ("proto=https;for=192.0.2.1", ["192.0.2.1"]),
        ("for=unknown, proto=https", ["unknown", ""]),
        ("", [""]),
        # A client's open quotation mark must not swallow what the proxy appends.
        ('for="192.0.2.1, for=10.0.0.1', []),
        ('for="a, for="[2001:db8::1]"', []),
        ('x="\\, for="[2001:db8::1]"', []),
        ("for 192.0.2.1", []),
    ],
)
def test_forwarded_is_read_as_rfc_7239_says(header: str, hops: list[str]) -> None:
    assert forwarded(header) == hops


def test_a_long_header_is_read_in_linear_time() -> None:
    for unit in ('"', 'a="",', "a=,", " ", ";", "for=1.2.3.4,"):
        value = unit * (100_000 // len(unit))
        assert forwarded(value) == []
        PROXIES.origin("10.0.0.1", forwarded_for(value))

"""Which hosts the service has, and which pages may use it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from captiond.authority import Authority, parse_authority
from captiond.errors import HostNotAllowed, OriginNotAllowed
from captiond.origins import Caller, PageRules
from captiond.settings.server_settings import ServerSettings

RULES = PageRules.of(["Captions.Example.com", "box"], ["https://Photos.example.com"])
ANYTHING = PageRules.of(["*"], ["*"])


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("A.Example", "a.example", None),
        ("a.example.:80", "a.example", 80),
        ("a:", "a", None),
        ("[0:0::1]:8080", "::1", 8080),
        ("[::1]", "::1", None),
        ("10.0.0.5:80", "10.0.0.5", 80),
    ],
)
def test_an_authority_has_a_host_and_perhaps_a_port(text: str, host: str, port: int | None) -> None:
    address = host in {"::1", "10.0.0.5"}
    assert parse_authority(text) == Authority(host, port, address)


@pytest.mark.parametrize(
    "text",
    [
        "", ".", ":80", "[::1]evil:8080", "[::1", "::1", "[::1%25eth0]", "[1.2.3.4]", "a:b",
        "a:65536", "a:80:80", "user@a", "a/x", "a?x", "a b", "a\n", "\u212a.example", "*", "a\0",
    ],
)  # fmt: skip
def test_other_texts_are_no_authority(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_authority(text)


@given(st.text())
def test_a_text_is_refused_or_has_a_host_without_delimiters(text: str) -> None:
    try:
        host = parse_authority(text).host
    except ValueError:
        return
    assert host
    assert not set(host) & set("/@?#\\[] %")


@pytest.mark.parametrize(
    "host",
    [
        None, "localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5:8000",
        "0.0.0.0", "captiond", "captiond:8000", "nas.local", "x.localhost", "captiond.ns.svc.local",
        "photos.home.arpa", "box.lan:80", "captions.example.com", "captions.example.com.:443",
    ],
)  # fmt: skip
def test_hosts_that_nobody_else_can_own_are_served(host: str | None) -> None:
    RULES.check(Caller("GET", host))


@pytest.mark.parametrize(
    "host",
    [
        "rebind.evil:8333", "evil.example", "a.captions.example.com", "example.com", "evil.com.",
        "localhost.evil.com", "local.evil", "127.0.0.1.evil.com", "2130706433.evil.com", "",
        "evil.example/x?", "a@evil.example", "localhost@evil.example", "[::1]evil:8080",
        "localhost\\.evil.com",
    ],
)  # fmt: skip
def test_other_hosts_are_refused_with_the_name_of_the_setting(host: str) -> None:
    with pytest.raises(HostNotAllowed, match=r"\[server\] hosts"):
        RULES.check(Caller("GET", host))
    ANYTHING.check(Caller("GET", host))


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, None),  # no browser
        ("http://localhost:8000", None),
        ("https://localhost:8000", None),  # a proxy has received it over TLS
        ("http://localhost:8000", "same-origin"),
        ("https://elsewhere.example", "same-origin"),  # a proxy has changed the host
        (None, "none"),
        ("https://photos.example.com", "cross-site"),
        ("https://photos.example.com", None),
    ],
)
def test_own_pages_and_allowed_pages_may_change_something(
    origin: str | None, site: str | None
) -> None:
    for method in ("POST", "DELETE"):
        RULES.check(Caller(method, "localhost:8000", origin, site))


FOREIGN = [
    ("http://evil.example", None),
    ("http://evil.example", "cross-site"),
    ("http://localhost:3000", None),
    ("http://localhost:3000", "same-site"),
    ("http://localhost", None),
    ("null", None),
    ("null", "cross-site"),
    (None, "cross-site"),
    (None, "same-site"),
    ("http://localhost:8000", "cross-site"),
    ("http://localhost:8000", "nonsense"),
    ("http://localhost:8000/", None),
    ("http://localhost:8000@evil.example", None),
    ("localhost:8000", None),
    ("", None),
    ("http://photos.example.com", "cross-site"),
    ("https://photos.example.com:8443", "cross-site"),
]


@pytest.mark.parametrize(("origin", "site"), FOREIGN)
def test_other_pages_may_only_read(origin: str | None, site: str | None) -> None:
    RULES.check(Caller("GET", "localhost:8000", origin, site))
    for method in ("POST", "DELETE", "PUT", "get", ""):
        with pytest.raises(OriginNotAllowed, match=r"\[server\] cors_origins"):
            RULES.check(Caller(method, "localhost:8000", origin, site))
    ANYTHING.check(Caller("POST", "localhost:8000", origin, site))


def test_a_default_port_is_the_same_as_none() -> None:
    RULES.check(Caller("POST", "box:443", "https://box"))
    RULES.check(Caller("POST", "box", "http://box:80"))
    with pytest.raises(OriginNotAllowed):
        RULES.check(Caller("POST", "box:443", "http://box"))


@pytest.mark.parametrize("entry", ["http://a", "a:80", "*.a", "a/x", "", "[::1]:80"])
def test_an_entry_of_hosts_is_a_name(entry: str) -> None:
    assert ServerSettings(hosts=("a.example", "*")).hosts
    with pytest.raises(ValidationError, match="must be a host name"):
        ServerSettings(hosts=(entry,))


@pytest.mark.parametrize("entry", ["a.example", "https://a/", "https://a/x", "null", "", "http://"])
def test_an_entry_of_cors_origins_is_an_origin(entry: str) -> None:
    assert ServerSettings(cors_origins=("https://a:80", "app://b", "*")).cors_origins
    with pytest.raises(ValidationError, match="must be an origin"):
        ServerSettings(cors_origins=(entry,))

"""Which URLs may be called, when a failed call is repeated, and how calls are signed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from captiond.callbacks import (
    BadUrl,
    RetrySchedule,
    Target,
    delay_after,
    is_allowed,
    parse_allowed,
    parse_url,
)
from captiond.supervisor.outgoing import seconds_in
from captiond.supervisor.signing import signed_headers

DEFAULT = RetrySchedule(attempts=10, first=5, longest=86400)
KEYS = ["whsec_" + "A" * 32, "whsec_" + "B" * 32]


def test_a_url_is_parsed_into_its_parts() -> None:
    assert parse_url("https://Hooks.Example.COM./a/b?c=d") == Target(
        "https", "hooks.example.com", 443, "/a/b?c=d"
    )
    assert parse_url("http://[::1]:8080") == Target("http", "::1", 8080, "/")
    assert parse_url("http://[::1]:8080").authority == "[::1]:8080"
    assert parse_url("https://a.example:443/").authority == "a.example"


@pytest.mark.parametrize(
    ("entry", "url", "allowed"),
    [
        ("a.example", "https://a.example/x", True),
        ("a.example", "http://A.example:8080/x", True),
        ("A.example:8443", "https://a.example:8443/", True),
        ("a.example:8443", "https://a.example/", False),
        ("a.example", "https://b.a.example/", False),
        ("a.example", "https://a.example.b/", False),
        ("[::1]:80", "http://[::1]/", True),
    ],
)
def test_a_host_is_allowed_by_its_whole_name(entry: str, url: str, allowed: bool) -> None:
    assert is_allowed(parse_url(url), [entry]) is allowed


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "https://a.example",
        "a.example/x",
        "*.a.example",
        "a:b",
        "a:",
        "[::1]evil:8080",
        "[::1]x",
    ],
)
def test_an_entry_that_is_not_a_host_is_refused(entry: str) -> None:
    with pytest.raises(BadUrl):
        parse_allowed(entry)


@pytest.mark.parametrize(
    "place", ["[::1]evil:8080", "[::1]evil", "[::1%25eth0]", "a:80:80", "a%2eb"]
)
def test_a_url_whose_host_can_be_read_in_two_ways_is_refused(place: str) -> None:
    with pytest.raises(BadUrl):
        parse_url(f"http://{place}/")


@given(st.text())
def test_every_text_is_refused_or_has_a_printable_host_and_path(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a.example{text}", f"http://{text}@a.example/"):
        try:
            target = parse_url(url)
        except BadUrl:
            continue
        assert target.path.startswith("/")
        assert all("!" <= character <= "~" for character in target.host + target.path)


def test_the_delays_grow_and_last_three_days_in_total() -> None:
    delays = [delay_after(attempt, DEFAULT, jitter=0) for attempt in range(1, 11)]
    assert delays[:4] == [5, 25, 125, 625]
    assert delays[-1] is None
    total = sum(delay for delay in delays if delay is not None)
    assert 3 * 86400 < total < 3.5 * 86400


def test_a_delay_has_jitter_and_respects_retry_after() -> None:
    assert delay_after(1, DEFAULT, jitter=1) == 6
    assert delay_after(1, DEFAULT, jitter=-1) == 4
    assert delay_after(1, DEFAULT, jitter=0, retry_after=60) == 60
    assert delay_after(1, DEFAULT, jitter=0, retry_after=1) == 5
    assert delay_after(1, DEFAULT, jitter=0, retry_after=1e9) == 86400
    assert delay_after(99, RetrySchedule(100, 5, 86400), jitter=0) == 86400
    assert [seconds_in(value) for value in (b"120", b"", b"Wed, 21 Oct 2026 07:28:00 GMT")] == [
        120,
        0,
        0,
    ]


def test_a_call_verifies_with_each_of_two_secrets_and_with_no_other() -> None:
    now = datetime.now(UTC).timestamp()
    headers = signed_headers(KEYS, "msg_1", now, '{"a":"ü"}')
    for key in KEYS:
        assert Webhook(key).verify('{"a":"ü"}', headers) == {"a": "ü"}
    for key, body in [("whsec_" + "C" * 32, '{"a":"ü"}'), (KEYS[0], '{"a":"u"}')]:
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)

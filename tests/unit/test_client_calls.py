"""The Python client without a network: which calls it makes, and what it makes of the answers."""

import json
import socket
import time
from typing import TypeVar, Unpack

import httpx2
import pytest
from httpx2 import ServerSentEvent

from captiond.client import (
    AnswerNotUnderstood,
    Captiond,
    ImageCaption,
    RequestRefused,
    RetryPolicy,
    ServiceError,
    ServiceUnreachable,
    WaitTimeout,
    calls,
)
from captiond.client.calls import LONGEST_WAIT, Call, Pause, Reply, Steps
from captiond.client.caption_options import CaptionOptions
from captiond.client.events import EventReader, result_of
from captiond.client.transport import base_arguments, request_arguments, stream_arguments
from captiond.request_options import RequestOptions
from captiond.web.async_tasks.event_stream import HEARTBEAT_SECONDS

T = TypeVar("T")
CAPTION = {"filename": "a.png", "caption": "a cat", "tags": ["cat"], "processing_time": 0.1}
TASK = {"task_id": "task_1_a", "message": "", "progress": {"total": 2, "done": 0, "failed": 0}}


class Script:
    """Carries out steps without a network. Time passes only in pauses and waits."""

    def __init__(self, *replies: Reply | Exception) -> None:
        self.replies = list(replies)
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.now = 1000.0
        self.service_waits = True

    def clock(self) -> float:
        return self.now

    def run(self, steps: Steps[T]) -> T:
        step = next(steps)
        while True:
            try:
                step = self._after(step, steps)
            except StopIteration as end:
                result: T = end.value
                return result

    def _after(self, step: Call | Pause, steps: Steps[T]) -> Call | Pause:
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return steps.send(None)
        self.calls.append(step)
        if self.service_waits:
            self.now += float(step.query.get("wait", 0))
        reply = self.replies.pop(0)
        return steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)


def ok(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, headers, json.dumps(body).encode())


def error(status: int, code: str, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, names, json.dumps({"detail": "Not now.", "code": code}).encode())


def captioned(
    script: Script, retry: RetryPolicy | None = None, **options: Unpack[CaptionOptions]
) -> ImageCaption:
    return script.run(calls.caption_one(b"cat", options, retry or RetryPolicy(), script.clock))


def test_the_options_are_those_of_the_service() -> None:
    assert set(CaptionOptions.__annotations__) == set(RequestOptions.model_fields)


def test_options_are_sent_as_a_form_has_them() -> None:
    script = Script(ok(CAPTION))
    captioned(script, num_beams=3, no_cache=True, tag_deny=["a", "b,c"], prompt="a photo of")
    (call,) = script.calls
    assert call.fields == {
        "num_beams": "3",
        "no_cache": "true",
        "tag_deny": '["a", "b,c"]',
        "prompt": "a photo of",
    }
    given = {name: value for name, value in call.fields.items() if name != "prompt"}
    read = RequestOptions.model_validate(given)
    assert read.tag_deny == ("a", "b,c")


def test_an_answer_may_have_fields_that_this_version_does_not_know() -> None:
    result = captioned(Script(ok({**CAPTION, "new": {"field": 1}, "score": None})))
    assert (result.name, result.caption, result.tags) == ("a.png", "a cat", ("cat",))
    assert result.succeeded
    assert result.score is None


def test_a_refused_call_is_repeated_after_the_time_that_the_service_asks_for() -> None:
    script = Script(
        error(503, "queue_full", retry_after="7"),
        error(429, "too_many_requests", retry_after="2"),
        ok(CAPTION),
    )
    assert captioned(script).caption == "a cat"
    assert script.pauses == [7, 2]


def test_a_service_that_asks_for_no_pause_is_called_ever_more_slowly() -> None:
    script = Script(*[error(503, "queue_full", retry_after="0")] * 4, ok(CAPTION))
    assert captioned(script, RetryPolicy(first=1, longest=3)).caption == "a cat"
    assert all(pause >= 0.5 for pause in script.pauses)


def test_a_broken_connection_is_repeated_ever_more_slowly() -> None:
    script = Script(*[ServiceUnreachable("gone")] * 4, ok(CAPTION))
    assert captioned(script, RetryPolicy(first=1, longest=3)).caption == "a cat"
    ceilings = [1, 2, 3, 3]
    assert all(top / 2 <= pause <= top for pause, top in zip(script.pauses, ceilings, strict=True))


def test_a_call_is_given_up_when_its_time_is_over() -> None:
    script = Script(*[error(503, "queue_full", retry_after="40")] * 9)
    with pytest.raises(RequestRefused, match="Not now") as caught:
        captioned(script, RetryPolicy(seconds=100))
    assert caught.value.code == "queue_full"
    assert caught.value.retry_after == 40
    assert script.pauses == [40, 40]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 504, 507])
def test_what_cannot_succeed_later_is_not_repeated(status: int) -> None:
    script = Script(error(status, "some_code", x_request_id="abc"))
    with pytest.raises(RequestRefused) as caught:
        captioned(script)
    assert (caught.value.status, caught.value.code) == (status, "some_code")
    assert caught.value.request_id == "abc"
    assert script.pauses == []


def test_the_problems_of_fields_are_named() -> None:
    problem = {"type": "x", "loc": ["body", "num_beams"], "msg": "Too many", "input": "99"}
    script = Script(Reply(422, {}, json.dumps({"detail": [problem], "code": "bad"}).encode()))
    with pytest.raises(RequestRefused, match="num_beams: Too many") as caught:
        captioned(script)
    assert caught.value.problems == (problem,)


OTHER_BODIES = {
    "html": b"<html>hello</html>",
    "list": b"[1]",
    "empty": b"{}",
    "number": b'{"filename": 3}',
    "latin": b'{"filename": "\xe4"}',
    "deep": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", OTHER_BODIES.values(), ids=OTHER_BODIES)
def test_an_answer_of_another_program(body: bytes) -> None:
    with pytest.raises(AnswerNotUnderstood, match="not from captiond"):
        captioned(Script(Reply(200, {}, body)))
    with pytest.raises(RequestRefused, match="status 400"):
        captioned(Script(Reply(400, {"retry-after": "²"}, body)))


@pytest.mark.parametrize("detail", [["no"], [{"loc": 1, "msg": "no"}], [{}], {"a": "no"}])
def test_the_error_of_another_program_may_have_any_form(detail: object) -> None:
    reply = Reply(400, {}, json.dumps({"detail": detail}).encode())
    with pytest.raises(RequestRefused) as raised:
        Script(reply).run(calls.version_of(RetryPolicy(), time.monotonic))
    assert raised.value.status == 400


def test_an_error_of_a_proxy() -> None:
    with pytest.raises(RequestRefused, match="status 405"):
        captioned(Script(Reply(405, {}, b"<html>Not allowed</html>")))


def submitted(script: Script, key: str | None = None, url: str | None = None) -> str:
    steps = calls.submit_task([b"a", b"b"], {}, key, url, RetryPolicy(), script.clock)
    return script.run(steps)


def test_a_task_is_submitted_once_however_often_the_call_is_repeated() -> None:
    accepted = ok({"message": "", "task_id": "task_1_a"}, 202)
    script = Script(ServiceUnreachable("broke"), accepted)
    assert submitted(script) == "task_1_a"
    keys = [call.headers["Idempotency-Key"] for call in script.calls]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    other = Script(accepted)
    submitted(other)
    assert other.calls[0].headers["Idempotency-Key"] != keys[0]


def test_the_caller_may_choose_key_and_webhook() -> None:
    script = Script(ok({"message": "", "task_id": "task_1_a"}, 202))
    submitted(script, "mine", "https://example.org/done")
    (call,) = script.calls
    assert call.headers["Idempotency-Key"] == "mine"
    assert call.fields == {"callback_url": "https://example.org/done"}


def test_waiting_for_a_task_lets_the_service_wait() -> None:
    waiting = ok({**TASK, "status": "PROCESSING"})
    script = Script(waiting, waiting, ok({**TASK, "status": "COMPLETED"}))
    report = script.run(calls.wait_for_task("task_1_a", None, RetryPolicy(), script.clock))
    assert report.finished
    assert [call.query["wait"] for call in script.calls] == ["60", "60", "60"]
    assert script.pauses == []


def test_waiting_for_a_task_ends_in_time() -> None:
    script = Script(*[ok({**TASK, "status": "PENDING"})] * 3)
    with pytest.raises(WaitTimeout, match="task_1_a was not finished within 90 s"):
        script.run(calls.wait_for_task("task_1_a", 90, RetryPolicy(), script.clock))
    assert [call.query["wait"] for call in script.calls] == ["60", "30"]


@pytest.mark.parametrize("patience", [0.3, 30.7, 89.6])
def test_the_service_is_asked_to_wait_whole_seconds(patience: float) -> None:
    """It knows no others. What is left is a pause."""
    script = Script(*[ok({**TASK, "status": "PENDING"})] * 9)
    begun = script.now
    with pytest.raises(WaitTimeout):
        script.run(calls.wait_for_task("task_1_a", patience, RetryPolicy(), script.clock))
    waits = [call.query["wait"] for call in script.calls if "wait" in call.query]
    assert all(1 <= int(wait) <= LONGEST_WAIT for wait in waits)
    assert script.now - begun == pytest.approx(patience)


def test_a_short_timeout_does_not_break_off_a_wait() -> None:
    usual = httpx2.Timeout(5)
    waiting = calls.Call(method="GET", path="/", wait=60)
    assert request_arguments(waiting, usual)["timeout"].read == 65
    assert request_arguments(calls.Call(method="GET", path="/"), usual)["timeout"] == usual
    reader = EventReader("t", RetryPolicy(), time.monotonic)
    assert stream_arguments(reader, usual)["timeout"].read > 2 * HEARTBEAT_SECONDS
    assert stream_arguments(reader, httpx2.Timeout(None))["timeout"].read is None


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://127.0.0.1:port", "localhost:8000", "127.0.0.1:8000", "http://", ""],
)
def test_what_is_no_url_is_an_error_of_the_client(url: str) -> None:
    with pytest.raises(ServiceUnreachable, match="is no URL"):
        Captiond(url)


def test_a_key_is_sent_without_the_line_end_of_its_file() -> None:
    headers = base_arguments("http://localhost", "cpd_key\n", 1)["headers"]
    assert headers["Authorization"] == "Bearer cpd_key"


@pytest.mark.parametrize("key", ["schl\u00fcssel", "one\ntwo"])
def test_what_is_no_key_is_an_error_of_the_client(key: str) -> None:
    with pytest.raises(ServiceError, match="no key of captiond") as raised:
        Captiond("http://localhost", key=key)
    assert key not in str(raised.value)


def test_a_call_that_cannot_be_sent_is_not_repeated() -> None:
    """httpx2 refuses it when the connection is there, which nothing later changes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Captiond(url) as captiond, pytest.raises(ServiceError, match="cannot be sent"):
            captiond.submit([b"cat"], idempotency_key="one\ntwo")


def test_a_service_that_answers_at_once_is_not_asked_without_a_pause() -> None:
    script = Script(*[ok({**TASK, "status": "PENDING"})] * 4)
    script.service_waits = False
    with pytest.raises(WaitTimeout):
        script.run(calls.wait_for_task("task_1_a", 1, RetryPolicy(), script.clock))
    assert script.pauses == [0.2, 0.4, pytest.approx(0.4)]


# ---------------------------------------------------------------- events


def event(kind: str, data: object = None, number: str = "") -> ServerSentEvent:
    return ServerSentEvent(event=kind, data=json.dumps(data), id=number)


def test_a_new_connection_goes_on_after_the_last_event() -> None:
    reader = EventReader("task_1_a", RetryPolicy(), lambda: 0.0)
    assert reader.headers == {}
    image = event("image", {"image_path": "a.png", "caption": "a cat", "tags": []}, "7")
    assert not reader.ends(image)
    assert not reader.ends(event("progress", {"total": 2}))
    assert reader.headers == {"Last-Event-ID": "7"}
    result = result_of(image)
    assert result is not None
    assert result.name == "a.png"
    assert result_of(event("progress", {"total": 2})) is None
    assert reader.ends(event("end", {}, "9"))


def test_events_that_break_again_and_again_are_given_up() -> None:
    now = [0.0]
    reader = EventReader("task_1_a", RetryPolicy(seconds=10, first=4, longest=4), lambda: now[0])
    broke = ServiceUnreachable("broke")
    while now[0] < 6:
        now[0] += reader.pause_after(broke)
    now[0] = 10
    reader.ends(event("reconnect", {}))  # all that a service sends whose database is away
    with pytest.raises(ServiceUnreachable):
        reader.pause_after(broke)
    reader.ends(event("progress", {}))  # an event has come: the count begins anew
    now[0] += 100
    assert reader.pause_after(broke) > 0

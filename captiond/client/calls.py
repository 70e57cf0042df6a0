"""Calls to the service without input and output: what is sent, and what an answer means.

A function that returns `Steps` is a generator. It yields what is to be done next, a `Call` or a
`Pause`, and gets the `Reply` of a call back. The blocking client and the asynchronous one only
carry the steps out, so both behave the same.
"""

import json
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import msgspec

from captiond.client.caption_options import CaptionOptions
from captiond.client.failures import (
    AnswerNotUnderstood,
    RequestRefused,
    ServiceUnreachable,
    WaitTimeout,
)
from captiond.client.pictures import FilePart, Picture, file_part
from captiond.client.retrying import RETRIED_STATUSES, RetryPolicy
from captiond.client.typed_results import ImageCaption, TaskReport, image_caption, task_report

T = TypeVar("T")
Clock = Callable[[], float]

TASKS = "/async-batch-caption"
LONGEST_WAIT = 60.0  # seconds; the service does not wait longer for one call
# What msgspec raises for a text that is no JSON, is no UTF-8, or is nested too deeply.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
FIRST_POLL, LONGEST_POLL = 0.2, 5.0  # seconds between two calls to a service that does not wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `pictures` are sent as files in the form field `file_field`.

    `wait` is how many seconds the service may wait before it answers, beside the usual time.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    file_field: str = ""
    pictures: tuple[FilePart, ...] = ()
    wait: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One response. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is to be done for so many seconds."""

    seconds: float


Steps = Generator[Call | Pause, Reply | None, T]


def caption_one(
    picture: Picture, options: CaptionOptions, retry: RetryPolicy, clock: Clock
) -> Steps[ImageCaption]:
    """Caption one image."""
    call = upload("/caption", "image", [picture], options)
    body = yield from answered(call, retry, clock)
    return understood(image_caption, body)


def caption_several(
    pictures: Iterable[Picture], options: CaptionOptions, retry: RetryPolicy, clock: Clock
) -> Steps[list[ImageCaption]]:
    """Caption several images in one request."""
    call = upload("/batch-caption", "images", pictures, options)
    body = yield from answered(call, retry, clock)
    return understood(lambda fields: [image_caption(each) for each in fields["results"]], body)


def submit_task(
    pictures: Iterable[Picture],
    options: CaptionOptions,
    idempotency_key: str | None,
    callback_url: str | None,
    retry: RetryPolicy,
    clock: Clock,
) -> Steps[str]:
    """Submit a task, and return its id. A key makes sure that a repetition submits it only once."""
    call = upload(TASKS, "images", pictures, options)
    fields = dict(call.fields)
    if callback_url is not None:
        fields["callback_url"] = callback_url
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    call = replace(call, fields=fields, headers=headers)
    body = yield from answered(call, retry, clock)
    return understood(lambda fields: str(fields["task_id"]), body)


def report_task(task_id: str, wait: float, retry: RetryPolicy, clock: Clock) -> Steps[TaskReport]:
    """Return the state of a task: at once, or when it is finished or `wait` seconds have passed.

    The service waits whole seconds.
    """
    query, whole = {"limit": "1"}, int(min(wait, LONGEST_WAIT))
    if whole > 0:
        query["wait"] = str(whole)
    call = Call(method="GET", path=f"{TASKS}/status/{task_id}", query=query, wait=whole)
    body = yield from answered(call, retry, clock)
    return understood(task_report, body)


def wait_for_task(
    task_id: str, patience: float | None, retry: RetryPolicy, clock: Clock
) -> Steps[TaskReport]:
    """Wait until a task is finished, and return its state."""
    deadline = None if patience is None else clock() + patience
    pause = FIRST_POLL
    while True:
        left = LONGEST_WAIT if deadline is None else deadline - clock()
        asked = clock()
        report = yield from report_task(task_id, max(left, 0), retry, clock)
        if report.finished:
            return report
        left = LONGEST_WAIT if deadline is None else deadline - clock()
        if left <= 0:
            raise WaitTimeout(f"{task_id} was not finished within {patience:g} s; it goes on")
        if clock() - asked < pause:  # the service is stopping, or does not know `wait`
            yield Pause(min(pause, left))
            pause = min(2 * pause, LONGEST_POLL)


def cancel_task(task_id: str, retry: RetryPolicy, clock: Clock) -> Steps[TaskReport]:
    """Cancel a task, and return its state."""
    call = Call(method="DELETE", path=f"{TASKS}/{task_id}")
    body = yield from answered(call, retry, clock)
    return understood(task_report, body)


def version_of(retry: RetryPolicy, clock: Clock) -> Steps[str]:
    """Return the version of the service."""
    body = yield from answered(Call(method="GET", path="/version"), retry, clock)
    return understood(lambda fields: str(fields["version"]), body)


def describe_service(retry: RetryPolicy, clock: Clock) -> Steps[dict[str, Any]]:
    """Return what the service says of itself."""
    return (yield from answered(Call(method="GET", path="/info"), retry, clock))


def upload(
    path: str, file_field: str, pictures: Iterable[Picture], options: CaptionOptions
) -> Call:
    """Return the call that sends these images with these options."""
    parts = tuple(file_part(picture) for picture in pictures)
    fields = {name: form_value(value) for name, value in options.items()}
    return Call(method="POST", path=path, file_field=file_field, pictures=parts, fields=fields)


def form_value(value: object) -> str:
    """Return an option as text: lists and booleans as JSON has them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def answered(call: Call, retry: RetryPolicy, clock: Clock) -> Steps[dict[str, Any]]:
    """Send a call until it is answered, and return the JSON object of the answer.

    Every call of this client may be repeated: captions change nothing on the server, and a task has
    its idempotency key.

    Raises:
        RequestRefused: the service refuses the call.
        ServiceUnreachable: no answer came.
        AnswerNotUnderstood: the answer is no JSON object.
    """
    started, failures = clock(), 0
    while True:
        try:
            reply = yield call
            return body_of(cast(Reply, reply))
        except (ServiceUnreachable, RequestRefused) as error:
            failures += 1
            pause = pause_after(error, failures, clock() - started, retry)
            if pause is None:
                raise
        yield Pause(pause)


def pause_after(
    error: ServiceUnreachable | RequestRefused, failures: int, elapsed: float, retry: RetryPolicy
) -> float | None:
    """Return the seconds to wait before the call is repeated; None if that would not help."""
    if isinstance(error, ServiceUnreachable):
        return retry.pause(failures, elapsed, None)
    if error.status not in RETRIED_STATUSES:
        return None
    return retry.pause(failures, elapsed, error.retry_after)


def body_of(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        RequestRefused: the answer is an error.
        AnswerNotUnderstood: the answer is no JSON object.
    """
    if reply.status >= 300:
        raise refusal(reply)
    return json_object(reply.body)


def json_object(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        AnswerNotUnderstood: the text is something else.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except NOT_JSON as error:
        raise AnswerNotUnderstood(
            f"the answer is not from captiond: {error}; is the URL right?"
        ) from None


def refusal(reply: Reply) -> RequestRefused:
    """Return the error that an answer stands for. It may come from a proxy, in any form."""
    try:
        fields = msgspec.json.decode(reply.body, type=dict[str, Any])
    except NOT_JSON:
        fields = {}
    detail = fields.get("detail")
    problems = problems_in(detail)
    if problems:
        detail = "; ".join(problem_text(problem) for problem in problems)
    return RequestRefused(
        reply.status,
        str(fields.get("code", "http_error")),
        str(detail or f"the server answered with status {reply.status}"),
        problems=problems,
        request_id=reply.headers.get("x-request-id"),
        retry_after=seconds(reply.headers.get("retry-after")),
    )


def problems_in(detail: object) -> tuple[Mapping[str, Any], ...]:
    """Return the problems of a request, none if `detail` has not the form that captiond sends."""
    if not isinstance(detail, list) or not all(isinstance(each, dict) for each in detail):
        return ()
    return tuple(detail)


def problem_text(problem: Mapping[str, Any]) -> str:
    """Return one problem of a request as text: the name of the field, and what is wrong."""
    place = problem.get("loc")
    names = place[1:] if isinstance(place, list) else []
    return f"{'.'.join(map(str, names))}: {problem.get('msg')}"


def seconds(header: str | None) -> float | None:
    """Return the value of Retry-After. captiond sends seconds; a date is taken for no value."""
    if header is None or not (header.isascii() and header.isdigit()):
        return None
    return float(header)


def understood(read: Callable[[dict[str, Any]], T], body: dict[str, Any]) -> T:
    """Return what `read` makes of the body of an answer.

    Raises:
        AnswerNotUnderstood: the body has not the fields of captiond's answers.
    """
    try:
        return read(body)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise AnswerNotUnderstood(f"the answer is not from captiond: {error!r}") from None

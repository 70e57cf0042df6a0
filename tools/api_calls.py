"""The calls of the examples in the OpenAPI document and in docs/api.md, and how they are recorded.

Files are those of tests/data. The calls are made in their order, because later ones need what
earlier ones have returned: `{task_id}`, `{etag}` and `{event}`, the id of an event, are those of
the last answer that had one.
"""

import asyncio
import dataclasses
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from captiond.settings.config import DataSettings, Settings
from captiond.store import shards
from captiond.store.engine import make_engine
from captiond.store.shards import NewImport
from captiond.web.openapi.examples import FILE, Example, stored_examples, with_files
from captiond.web.operation import Operation
from captiond.web.operations import OPERATIONS
from tests.service import DATA, Service

BY_NAME = {operation.name: operation for operation in OPERATIONS}
# Fields whose values differ from run to run.
CHANGING = {
    "cached",
    "created_at",
    "finished_at",
    "images",  # in the queue, which is counted from time to time
    "processing_time",
    "queue",  # the tasks of the last second still count, which depends on how fast the calls are
    "request_id",
    "response_time",
    "score",
    "started_at",
    "task_id",
    "timestamp",
    "total_processing_time",
    "version",
}
# How long a request took depends on what else the machine does. The examples have these values.
USUAL_TIMES = {"processing_time": 0.2669, "total_processing_time": 0.3214}
# Fields that are there only while the service is busy, or has been.
PASSING = {"eta_seconds", "images_per_second", "queue_position"}
LISTS_TASKS = {"CAPTIOND_CLIENTS__LISTS": "all"}  # what the calls need of a service
NUMBER = re.compile(r"\d+(\.\d+)?(e-?\d+)?|true|false")
LAST_ID = re.compile(r"^id: (\S+)$", re.MULTILINE)
TASK_ID = re.compile(r"task_\d+_[0-9a-f]{32}")
IMPORT = NewImport(
    "import_1785000000_0123456789abcdef",
    ("s3://photos/2026",),
    "uri",
    "s3://captions/2026",
    "parquet",
    2,
    1785000000.0,
    queued=True,
)
TWO = (("images", "boat_and_sun.png"), ("images", "star_inside_circle.png"))


@dataclass(frozen=True)
class Call:
    """A call of an operation. If it `waits`, the task is finished before the call is made.

    If it is `held`, there is no model, so that images wait. If it is not `shown`, it is no example.
    """

    operation: str
    title: str
    files: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    json: Any = None
    waits: bool = False
    held: bool = False
    shown: bool = True


CALLS = (
    Call("caption", "One image", (("image", "boat_and_sun.png"),)),
    Call(
        "caption",
        "Options",
        (("image", "boat_and_sun.png"),),
        {"num_beams": "3", "num_captions": "2", "tag_categories": "vehicle"},
    ),
    Call(
        "caption",
        "JSON",
        json={"image": "@data:boat_and_sun.png", "filename": "boat.png", "tag_kinds": ["noun"]},
    ),
    Call("caption", "A file that is no image", (("image", "scenes.json"),)),
    Call("caption", "A wrong option", (("image", "boat_and_sun.png"),), {"num_beams": "99"}),
    Call(
        "batch_caption",
        "Two files, one of which is no image",
        (("images", "star_inside_circle.png"), ("images", "scenes.json")),
    ),
    Call(
        "batch_caption",
        "JSON",
        json={
            "images": [
                "@base64:star_inside_circle.png",
                {"image": "@base64:boat_and_sun.png", "filename": "boat.png"},
            ]
        },
    ),
    Call("async_batch_caption", "A task to cancel", TWO, held=True, shown=False),
    Call("cancel_task", "A task whose images wait", held=True),
    Call("async_batch_caption", "Two images", TWO, headers={"Idempotency-Key": "{new_key}"}),
    Call("task_status", "A finished task", waits=True),
    Call("task_status", "Nothing has changed", headers={"If-None-Match": "{etag}"}),
    Call("task_status", "One of its results", query="?offset=1&limit=1"),
    Call("task_status", "Wait until it is finished", query="?wait=30"),
    Call("task_events", "All events of a task"),
    Call("task_events", "After the end", headers={"Last-Event-ID": "{event}"}),
    Call("task_results", "JSON"),
    Call("task_results", "A result on each line", query="?format=ndjson"),
    Call("task_results", "A table", headers={"Accept": "text/csv"}),
    Call("list_tasks", "A part of the list", query="?status=COMPLETED&limit=1"),
    Call("list_tasks", "A wrong limit", query="?limit=1000"),
    Call("retry_task", "A task without an image to retry"),
    Call("cancel_task", "A finished task"),
    Call("list_imports", "One import", held=True),
    Call("show_import", "An import that waits", held=True),
    Call("cancel_import", "An import that waits", held=True),
    Call("info", "The service"),
    Call("health", "A healthy service"),
    Call("livez", "A process that answers"),
    Call("readyz", "A ready service"),
    Call("version", "The version"),
)
# Operations whose answer is a page by itself, and those that docs/metrics.md and docs/dialects.md
# show.
SILENT = {"page", "docs_page", "openapi_document", "metrics"}
SILENT |= {operation.name for operation in OPERATIONS if operation.dialect is not None}


def record(service: Service, waiting: Service, key: str) -> dict[str, list[Example]]:
    """Make all calls, and return them with their answers.

    The calls that are `held` are made at the service `waiting`, whose images all wait. `key` is an
    unused Idempotency-Key.
    """
    add_import(waiting)
    known, examples = {"new_key": key, "import_id": IMPORT.id}, defaultdict(list)
    for call in CALLS:
        if call.waits:
            service.finished(known["task_id"])
        response = send((waiting if call.held else service).client, call, known)
        remember(response, known)
        if call.shown:
            examples[call.operation].append(example_of(call, response))
    return dict(examples)


def add_import(service: Service) -> None:
    """Queue an import, as `captiond import --queue` does."""

    async def add() -> None:
        engine = make_engine(Settings(data=DataSettings(dir=service.data)).database_address)
        await shards.join_import(engine, IMPORT)
        await shards.begin_listing(engine, IMPORT.id, "lister")
        addresses = [f"s3://photos/2026/{number:04}.jpg" for number in range(4)]
        await shards.add_shards(engine, IMPORT.id, "lister", [addresses[:2], addresses[2:]])
        await shards.end_listing(engine, IMPORT.id, "lister", time.time())
        await engine.dispose()

    asyncio.run(add())


def send(client: httpx.Client, call: Call, known: Mapping[str, str]) -> httpx.Response:
    """Make one call."""
    operation = BY_NAME[call.operation]
    return client.request(
        operation.method,
        operation.path.format(**known) + call.query,
        files=[(name, (file, (DATA / file).read_bytes())) for name, file in call.files] or None,
        data=dict(call.fields) or None,
        json=with_files(call.json, DATA),
        headers={name: value.format(**known) for name, value in call.headers.items()},
    )


def remember(response: httpx.Response, known: dict[str, str]) -> None:
    """Keep what later calls need of an answer."""
    if "etag" in response.headers:
        known["etag"] = response.headers["etag"]
    if events := LAST_ID.findall(response.text):
        known["event"] = events[-1]
    if response.status_code == 202:
        known["task_id"] = response.json()["task_id"]


def example_of(call: Call, response: httpx.Response) -> Example:
    """Return a call with its answer, as it is stored."""
    operation, request = BY_NAME[call.operation], response.request
    media_type = response.headers.get("content-type", "").partition(";")[0]
    is_json = media_type == "application/json"
    return Example(
        title=call.title,
        method=request.method,
        path=request.url.raw_path.decode(),
        status=response.status_code,
        media_type=media_type,
        body=with_usual_times(response.json()) if is_json else response.text,
        files=call.files,
        fields=dict(call.fields),
        headers={name: request.headers[name] for name in call.headers},
        json=call.json,
        answer_headers={
            name: response.headers[name]
            for name in listed_headers(operation, response.status_code)
            if name in response.headers
        },
    )


def with_usual_times(body: Any) -> Any:
    return {**body, **{name: USUAL_TIMES[name] for name in USUAL_TIMES if name in body}}


def listed_headers(operation: Operation, status: int) -> Iterator[str]:
    for spec in operation.responses:
        if spec.status == status:
            yield from spec.headers


def differences(
    stored: Any, recorded: Any, place: str = "", *, changing: bool = False
) -> list[str]:
    """Return where two values differ. Values that change from run to run need the same type."""
    if isinstance(stored, dict) and isinstance(recorded, dict):
        keys, others = lasting(stored), lasting(recorded)
        if keys != others:
            return [f"{place}: has {others}, not {keys}"]
        pairs = [(f"{place}.{key}", stored[key], recorded[key], key) for key in keys]
    elif isinstance(stored, list) and isinstance(recorded, list) and len(stored) == len(recorded):
        pairs = [
            (f"{place}[{n}]", *each, "")
            for n, each in enumerate(zip(stored, recorded, strict=True))
        ]
    elif changing:
        same = None in (stored, recorded) or type(stored) is type(recorded)
        return [] if same else [f"{place}: is {recorded!r}, not {stored!r}"]
    else:
        return [] if without_ids(stored) == without_ids(recorded) else [place]
    return [
        found
        for where, one, other, key in pairs
        for found in differences(one, other, where, changing=changing or key in CHANGING)
    ]


def lasting(fields: Mapping[str, Any]) -> list[str]:
    return [name for name in fields if name not in PASSING]


def without_ids(value: Any) -> Any:
    return TASK_ID.sub("task", value) if isinstance(value, str) else value


CHANGING_HEADERS = {"answer_headers", "headers"}


def changes(stored: Example, recorded: Example) -> list[str]:
    """Return where a recorded example differs from the one that is stored."""
    one, other = dataclasses.asdict(stored), dataclasses.asdict(recorded)
    for name in CHANGING_HEADERS:
        one[name], other[name] = list(one[name] or ()), list(other[name] or ())
    for each in (one, other):
        if isinstance(each["body"], str):
            # The ids go first: without its numbers, an id is not recognised.
            each["body"] = NUMBER.sub("0", without_ids(each["body"]))
    return differences(one, other, recorded.title)


def store(recorded: Mapping[str, list[Example]]) -> None:
    """Write the examples. One that has not changed is kept, with the values of its first run."""
    before = stored_examples()
    kept = {
        name: [keep(before.get(name, ()), example) for example in examples]
        for name, examples in recorded.items()
    }
    content = {
        name: [dataclasses.asdict(each) for each in examples] for name, examples in kept.items()
    }
    FILE.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def keep(before: Any, example: Example) -> Example:
    return next((each for each in before if not changes(each, example)), example)

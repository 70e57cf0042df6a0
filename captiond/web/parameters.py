"""The parameters of the operations: what they take in paths, queries, headers and forms."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from captiond.jobs import Status
from captiond.web.async_tasks.event_stream import EVENT_ID
from captiond.web.async_tasks.idempotency import KEY
from captiond.web.async_tasks.long_poll import MOST_SECONDS
from captiond.web.async_tasks.results_stream import ResultFormat
from captiond.web.async_tasks.status_response import MAX_DIGITS, MAX_PAGE
from captiond.web.async_tasks.task_list import MOST
from captiond.web.operation import (
    ParameterSpec,
)

TASK_ID = ParameterSpec(
    "task_id",
    "path",
    "The id that the task got.",
    Annotated[str, Field(pattern="^task_[0-9]+_[0-9a-f]{32}$")],
    required=True,
)
IMPORT_ID = ParameterSpec(
    "import_id",
    "path",
    "The id that captiond import has printed.",
    Annotated[str, Field(pattern="^import_[0-9]+_[0-9a-f]{16}$")],
    required=True,
)
IMPORT_LIMIT = ParameterSpec(
    "limit",
    "query",
    "List at most so many imports, usually 20.",
    Annotated[int, Field(ge=1, le=MOST)],
)
IDEMPOTENCY_KEY = ParameterSpec(
    "Idempotency-Key",
    "header",
    "1 to 255 printable ASCII characters. A request with the key and the content of an earlier one "
    "returns the earlier task.",
    Annotated[str, Field(pattern=f"^{KEY.pattern}$")],
)
IMAGE_PATH = ParameterSpec(
    "path",
    "form",
    "The path of an image under [images] root, in place of a file.",
)
IMAGE_PATHS = replace(
    IMAGE_PATH,
    description="The path of an image under [images] root. The field may be repeated, and there "
    "may be files as well.",
)
OFFSET = ParameterSpec(
    "offset",
    "query",
    "Return only the results of images from this position on, counted from 0 in upload order.",
    Annotated[int, Field(ge=0, lt=10**MAX_DIGITS)],
)
LIMIT = ParameterSpec(
    "limit",
    "query",
    "Return only the results of so many images.",
    Annotated[int, Field(ge=1, le=MAX_PAGE)],
)
IF_NONE_MATCH = ParameterSpec(
    "If-None-Match", "header", "The ETag of an earlier answer. The answer is 304 if it is the same."
)
WAIT = ParameterSpec(
    "wait",
    "query",
    "Wait up to so many seconds, at most 60, until the task is finished. With If-None-Match, only "
    "until the task has another revision than the ETag.",
    Annotated[int, Field(ge=0, le=MOST_SECONDS)],
)
FOLLOW = ParameterSpec(
    "follow",
    "query",
    "false: send the events that there are, and end. A proxy may hold a stream back, and too many "
    "clients may wait; a client can then poll.",
    bool,
)
LAST_EVENT_ID = ParameterSpec(
    "Last-Event-ID",
    "header",
    "The id of the last event that the client has. The stream goes on with the next one.",
    Annotated[str, Field(pattern=f"^({EVENT_ID.pattern})$")],
)
FORMAT = ParameterSpec(
    "format", "query", "json, ndjson or csv. Without it, Accept decides.", ResultFormat
)
ACCEPT = ParameterSpec(
    "Accept", "header", "application/json (the default), application/x-ndjson or text/csv."
)
METRICS_ACCEPT = ParameterSpec(
    "Accept",
    "header",
    "application/openmetrics-text for OpenMetrics. Anything else, and no header, is text/plain.",
)
STATUS = ParameterSpec("status", "query", "List only tasks of this status.", Status)
LIST_LIMIT = ParameterSpec(
    "limit",
    "query",
    "List at most so many tasks, usually 20.",
    Annotated[int, Field(ge=1, le=MOST)],
)
CURSOR = ParameterSpec(
    "cursor",
    "query",
    "The field next of an earlier answer: list the tasks that follow. It stays valid when tasks "
    "are added or deleted.",
)
CALLBACK_URL = ParameterSpec(
    "callback_url",
    "form",
    "A URL that is called once the task is finished. [webhooks] allow must list its host.",
)

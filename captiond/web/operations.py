"""The table of operations: every call of the HTTP API, with what it takes, returns and refuses.

The application's routes are made from this table. To add a call, add a handler and an entry.
Starlette answers an unknown path with 404, and another method on a known path with 405 and `Allow`.
Every operation may also answer with an error of ANY_REQUEST or BY_THE_PROTOCOL, and 500 with the
code of CaptiondError if captiond itself fails.
"""

from captiond.errors import (
    BadKey,
    CannotStore,
    Draining,
    ImportNotFound,
    KeyReused,
    MalformedBody,
    NothingToRetry,
    QueueFull,
    SpoolFull,
    StoreBusy,
    StoreDamaged,
    TaskFinished,
    TaskNotFound,
)
from captiond.keys import Scope
from captiond.spool.unavailable import StorageUnavailable
from captiond.store.results import Unreadable
from captiond.web import (
    captioning,
    import_schemas,
    import_status,
    info,
    page,
    probes,
    schemas,
    scrape,
    task_schemas,
)
from captiond.web.async_tasks import (
    async_captioning,
    event_stream,
    results_stream,
    task_list,
)
from captiond.web.async_tasks.async_captioning import TASK_IMAGES
from captiond.web.async_tasks.results_stream import MEDIA_TYPES, ResultFormat
from captiond.web.captioning import ONE_IMAGE, SEVERAL_IMAGES
from captiond.web.dialects.table import DIALECT_OPERATIONS
from captiond.web.openapi import served
from captiond.web.operation import (
    ADMISSION,
    AT_UPLOAD,
    CAPTIONS,
    DURING_WORK,
    IMPORTS,
    NOT_READY,
    STORE,
    TASKS,
    UPLOAD,
    WHILE_WAITING,
    Operation,
    ResponseSpec,
)
from captiond.web.parameters import (
    ACCEPT,
    CALLBACK_URL,
    CURSOR,
    FOLLOW,
    FORMAT,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    IMAGE_PATH,
    IMAGE_PATHS,
    IMPORT_ID,
    IMPORT_LIMIT,
    LAST_EVENT_ID,
    LIMIT,
    LIST_LIMIT,
    METRICS_ACCEPT,
    OFFSET,
    STATUS,
    TASK_ID,
    WAIT,
)
from captiond.web.problems import InvalidRequest, ListRefused, TooManyWaiting

ETAG = {"ETag": "Identifies this state of the task, for If-None-Match."}
DOCUMENT_ETAG = {"ETag": "Identifies this version of the document, for If-None-Match."}
ACCEPTED_HEADERS = {
    "Location": "The path of the task's status.",
    "Retry-After": "After how many seconds to ask for it.",
}

RESULT_HEADERS = {
    **ETAG,
    "Task-Status": "The task's status. There may be more results unless it is finished.",
    "Content-Disposition": "A name for the file.",
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/caption",
        "Caption one image.",
        captioning.caption,
        (ResponseSpec(200, "The caption.", schemas.CaptionResponse),),
        scope=Scope.CAPTION,
        errors=(*ADMISSION, *UPLOAD, *AT_UPLOAD, *DURING_WORK, *WHILE_WAITING, QueueFull),
        form=ONE_IMAGE,
        parameters=(IMAGE_PATH,),
        group=CAPTIONS,
    ),
    Operation(
        "POST",
        "/batch-caption",
        "Caption several images.",
        captioning.batch_caption,
        (ResponseSpec(200, "One result for each image, in upload order.", schemas.BatchResponse),),
        scope=Scope.CAPTION,
        errors=(*ADMISSION, *UPLOAD, *NOT_READY, QueueFull),
        form=SEVERAL_IMAGES,
        parameters=(IMAGE_PATHS,),
        group=CAPTIONS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, *WHILE_WAITING),
    ),
    Operation(
        "POST",
        "/async-batch-caption",
        "Accept several images as a task, which is finished later.",
        async_captioning.async_batch_caption,
        (ResponseSpec(202, "The task is stored.", schemas.TaskAccepted, ACCEPTED_HEADERS),),
        scope=Scope.CAPTION,
        errors=(
            *ADMISSION,
            *UPLOAD,
            StoreBusy,
            StoreDamaged,
            SpoolFull,
            StorageUnavailable,
            Draining,
            QueueFull,
            BadKey,
            KeyReused,
        ),
        form=TASK_IMAGES,
        parameters=(IMAGE_PATHS, IDEMPOTENCY_KEY, CALLBACK_URL),
        group=TASKS,
    ),
    Operation(
        "GET",
        "/async-batch-caption/status/{task_id}",
        "Show a task with the results that it has so far.",
        async_captioning.task_status,
        (
            ResponseSpec(200, "The task.", schemas.TaskStatus, ETAG),
            ResponseSpec(304, "The task is as it was with this ETag.", None, ETAG),
        ),
        scope=Scope.READ,
        errors=(*ADMISSION, TaskNotFound, InvalidRequest, MalformedBody, TooManyWaiting, *STORE),
        parameters=(TASK_ID, WAIT, OFFSET, LIMIT, IF_NONE_MATCH),
        group=TASKS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, Unreadable),
        quiet=True,
    ),
    Operation(
        "GET",
        "/async-batch-caption/events/{task_id}",
        "Follow a task by server-sent events: an image event for each result, progress, end.",
        event_stream.task_events,
        (
            ResponseSpec(
                200,
                "The events: `image` for each result, `progress`, `end` with the task, and "
                "`reconnect` if the stream ends before the task does.",
                None,
                media_type=event_stream.MEDIA_TYPE,
                item=(
                    task_schemas.ImageEvent
                    | task_schemas.ProgressEvent
                    | task_schemas.TaskItem
                    | task_schemas.ReconnectEvent
                ),
            ),
            ResponseSpec(204, "The client has the end of the task already.", None),
        ),
        scope=Scope.READ,
        errors=(*ADMISSION, TaskNotFound, InvalidRequest, TooManyWaiting, Draining, *STORE),
        parameters=(TASK_ID, FOLLOW, LAST_EVENT_ID),
        group=TASKS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, Unreadable),
        quiet=True,
    ),
    Operation(
        "GET",
        "/async-batch-caption/results/{task_id}",
        "Download the results that a task has so far, as JSON, JSON lines or CSV.",
        results_stream.task_results,
        (
            ResponseSpec(
                200,
                "The results in upload order: one JSON object, a result on each line, or a table.",
                task_schemas.TaskResults,
                RESULT_HEADERS,
            ),
            ResponseSpec(
                200,
                "The results, one on each line.",
                None,
                RESULT_HEADERS,
                MEDIA_TYPES[ResultFormat.NDJSON],
                schemas.ImageResult,
            ),
            ResponseSpec(
                200, "The results as a table.", None, RESULT_HEADERS, MEDIA_TYPES[ResultFormat.CSV]
            ),
            ResponseSpec(304, "The results are as they were with this ETag.", None, ETAG),
        ),
        scope=Scope.READ,
        errors=(*ADMISSION, TaskNotFound, InvalidRequest, *STORE),
        parameters=(TASK_ID, FORMAT, ACCEPT, IF_NONE_MATCH),
        group=TASKS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, Unreadable),
    ),
    Operation(
        "GET",
        "/tasks",
        "List the tasks of the client, the newest first.",
        task_list.list_tasks,
        (ResponseSpec(200, "A part of the list.", task_schemas.TaskList),),
        scope=Scope.READ,
        errors=(*ADMISSION, ListRefused, InvalidRequest, *STORE),
        parameters=(STATUS, LIST_LIMIT, CURSOR),
        group=TASKS,
    ),
    Operation(
        "POST",
        "/async-batch-caption/{task_id}/retry",
        "Caption the failed images of a finished task again, if the machine may have been the "
        "cause.",
        async_captioning.retry_task,
        (ResponseSpec(200, "The task, which waits again.", schemas.TaskStatus, ETAG),),
        scope=Scope.CAPTION,
        errors=(*ADMISSION, TaskNotFound, NothingToRetry, Draining, *STORE),
        parameters=(TASK_ID,),
        group=TASKS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, Unreadable),
    ),
    Operation(
        "GET",
        "/info",
        "Show the model, the limits, the options and the length of the queue.",
        info.info,
        (ResponseSpec(200, "The service.", info.ServiceInfo),),
        scope=Scope.READ,
        errors=(*ADMISSION, *STORE),
        quiet=True,
    ),
    Operation(
        "DELETE",
        "/async-batch-caption/{task_id}",
        "Cancel a task. Images without a result do not get one any more.",
        async_captioning.cancel_task,
        (ResponseSpec(200, "The cancelled task.", schemas.TaskStatus, ETAG),),
        scope=Scope.CAPTION,
        errors=(*ADMISSION, TaskNotFound, TaskFinished, *STORE),
        parameters=(TASK_ID,),
        group=TASKS,
        image_errors=(*AT_UPLOAD, *DURING_WORK, Unreadable),
    ),
    Operation(
        "GET",
        "/imports",
        "List the imports of captiond import, the newest first.",
        import_status.list_imports,
        (ResponseSpec(200, "The newest imports.", import_schemas.ImportList),),
        scope=Scope.ADMIN,
        errors=(*ADMISSION, InvalidRequest, *STORE),
        parameters=(IMPORT_LIMIT,),
        group=IMPORTS,
    ),
    Operation(
        "GET",
        "/imports/{import_id}",
        "Show how far an import is.",
        import_status.show_import,
        (ResponseSpec(200, "The import.", import_schemas.ImportItem),),
        scope=Scope.ADMIN,
        errors=(*ADMISSION, ImportNotFound, *STORE),
        parameters=(IMPORT_ID,),
        group=IMPORTS,
        quiet=True,
    ),
    Operation(
        "POST",
        "/imports/{import_id}/cancel",
        "Cancel an import. Results that are written stay.",
        import_status.cancel_import,
        (ResponseSpec(200, "The cancelled import.", import_schemas.ImportItem),),
        scope=Scope.ADMIN,
        errors=(*ADMISSION, ImportNotFound, TaskFinished, *STORE),
        parameters=(IMPORT_ID,),
        group=IMPORTS,
    ),
    Operation(
        "GET",
        "/health",
        "Show whether images can be captioned, and by which model.",
        probes.health,
        (
            ResponseSpec(200, "Images can be captioned.", schemas.HealthReport),
            ResponseSpec(503, "No image can be captioned now.", schemas.HealthReport),
        ),
        quiet=True,
        everywhere=True,
    ),
    Operation(
        "GET",
        "/livez",
        "Liveness: a web process answers.",
        probes.livez,
        (ResponseSpec(200, "The process answers.", schemas.ProbeStatus),),
        quiet=True,
        everywhere=True,
    ),
    Operation(
        "GET",
        "/readyz",
        "Readiness: images can be captioned now.",
        probes.readyz,
        (ResponseSpec(200, "Images can be captioned.", schemas.ProbeStatus),),
        errors=(*NOT_READY, CannotStore),
        quiet=True,
        everywhere=True,
    ),
    Operation(
        "GET",
        "/version",
        "Show the name and the version of the service.",
        probes.version,
        (ResponseSpec(200, "Name and version.", schemas.VersionInfo),),
        quiet=True,
        everywhere=True,
    ),
    Operation(
        "GET",
        "/metrics",
        "Show the metrics of all processes, in Prometheus' text format or in OpenMetrics.",
        scrape.metrics,
        (
            ResponseSpec(
                200, "The metrics, in Prometheus' text format 0.0.4.", None, media_type="text/plain"
            ),
            ResponseSpec(
                200,
                "The metrics, in OpenMetrics 1.0.",
                None,
                media_type="application/openmetrics-text",
            ),
        ),
        scope=Scope.METRICS,
        errors=(*ADMISSION, scrape.MetricsUnavailable),
        parameters=(METRICS_ACCEPT,),
        quiet=True,
        everywhere=True,
    ),
    Operation(
        "GET",
        "/",
        "The web page, on which images can be captioned.",
        page.page,
        (ResponseSpec(200, "The page.", None, media_type="text/html"),),
        quiet=True,
    ),
    Operation(
        "GET",
        "/openapi.json",
        "Describe the API as an OpenAPI 3.1 document.",
        served.openapi_document,
        (
            ResponseSpec(200, "The document.", dict[str, object], DOCUMENT_ETAG),
            ResponseSpec(304, "The document is as it was with this ETag.", None, DOCUMENT_ETAG),
        ),
        parameters=(IF_NONE_MATCH,),
        quiet=True,
    ),
    Operation(
        "GET",
        "/docs",
        "The web page that shows the API, with a form to try each call.",
        page.docs_page,
        (ResponseSpec(200, "The page.", None, media_type="text/html"),),
        quiet=True,
    ),
    *DIALECT_OPERATIONS,
)

"""Metrics: what is counted and measured, declared once for all processes.

Names and units follow Prometheus' conventions: base units (seconds, bytes), counters end in
`_total`. The values of labels are few, and no client can make more of them. `captiond.recording`
has what records and adds up. `docs/metrics.md` is made from this module.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Of images in a queue: a client waits for seconds, a large task for hours.
WAITS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
LANES = ("interactive", "bulk", "import")
# Codes of images that fail though they may be good. An alert is to see the first one.
BY_THE_MACHINE = ("out_of_memory", "poison_image", "spool_error", "internal_error")
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Area(StrEnum):
    """What a metric is about; the docs have a table for each."""

    SERVICE = "The service"
    IMAGES = "Images"
    QUEUES = "Queues"
    MODEL = "Model processes"
    HTTP = "HTTP"
    STORAGE = "Storage and webhooks"
    PROCESSES = "Processes"


@dataclass(frozen=True, slots=True)
class Counter:
    """A sum that only grows.

    `known` has the values of each label that are known in advance. Their series are there from the
    start, with 0: Prometheus computes an increase from two values, so it would miss the first event
    of a series that appears with it.
    """

    name: str
    area: Area
    description: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()

    @property
    def first_series(self) -> Iterator[tuple[str, ...]]:
        """The values of the labels of the series that are there from the start."""
        return product(*self.known) if len(self.known) == len(self.labels) else iter(())


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a value was at most each of `bounds`, and the sum of all values."""

    name: str
    area: Area
    description: str
    bounds: tuple[float, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that rises and falls. The gauges of several processes are added up.

    What a process has set no longer counts when it has exited.
    """

    name: str
    area: Area
    description: str
    labels: tuple[str, ...] = ()


Metric = Counter | Histogram | Gauge

# ---------------------------------------------------------------- the service

READY = Gauge("captiond_ready", Area.SERVICE, "1 if images can be captioned now, else 0.")
HEALTH = Gauge(
    "captiond_health",
    Area.SERVICE,
    "1 for the state that /health reports, 0 for the others: healthy, starting, degraded, "
    "unhealthy.",
    ("state",),
)
BUILD_INFO = Gauge(
    "captiond_build_info",
    Area.SERVICE,
    "Always 1. The labels are the versions of captiond and of Python.",
    ("version", "python"),
)
MODEL_INFO = Gauge(
    "captiond_model_info",
    Area.SERVICE,
    "1 for the model that captions. `fallback` is true if it is not the one that the settings "
    "name.",
    ("model", "device", "precision", "fallback"),
)
START_TIME = Gauge(
    "captiond_start_time_seconds", Area.SERVICE, "When the service started, as a Unix time."
)

# ---------------------------------------------------------------- images

IMAGES_FINISHED = Counter(
    "captiond_images_finished_total",
    Area.IMAGES,
    "Images that are finished, by lane and by outcome: captioned, cached, withdrawn (nobody waits "
    "for the image any more), or the error's code.",
    ("lane", "outcome"),
    (LANES, ("captioned", "cached", "withdrawn", *BY_THE_MACHINE)),
)
IMAGE_SECONDS = Histogram(
    "captiond_image_seconds",
    Area.IMAGES,
    "Time from the acceptance of an image until its outcome is known. Withdrawn images do not "
    "count.",
    WAITS,
    ("lane",),
)
IMAGE_WAIT_SECONDS = Histogram(
    "captiond_image_wait_seconds",
    Area.IMAGES,
    "Time from the acceptance of an image until a model process has it.",
    WAITS,
    ("lane",),
)
STAGE_SECONDS = Histogram(
    "captiond_stage_seconds",
    Area.IMAGES,
    "Time of an image in each stage of a model process: decode (with the wait for a decoder), "
    "queue (the wait for the batch), model (with the copying of the pixels, and the resizing on a "
    "GPU), translation (in batches with images to translate), tags.",
    SECONDS,
    ("stage",),
)
CACHE_LOOKUPS = Counter(
    "captiond_cache_lookups_total",
    Area.IMAGES,
    "Images by what the caption cache knows of them: hit (also if an equal image is being "
    "captioned), miss, or unused (the image is not to be looked up).",
    ("result",),
    (("hit", "miss", "unused"),),
)
CAPTION_TOKENS = Counter(
    "captiond_caption_tokens_total", Area.IMAGES, "Tokens of the captions that were generated."
)
TAGGING_FAILURES = Counter(
    "captiond_tagging_failures_total", Area.IMAGES, "Captions whose tags could not be made."
)
TRANSLATIONS = Counter(
    "captiond_translations_total",
    Area.IMAGES,
    "Images whose captions were to be translated, by language and by what became of them: "
    "translated, or in English because the translation is degenerate or the model unavailable.",
    ("language", "outcome"),
)
CLAIMED = Counter(
    "captiond_images_claimed_total",
    Area.IMAGES,
    "Images of tasks that were claimed for a model process.",
)
REQUEUED = Counter(
    "captiond_images_requeued_total",
    Area.IMAGES,
    "Claimed images that were requeued because their model process has exited.",
)

# ---------------------------------------------------------------- queues

QUEUE_IMAGES = Gauge(
    "captiond_queue_images",
    Area.QUEUES,
    "Images that no model process has yet, by lane.",
    ("lane",),
)
QUEUE_OLDEST_SECONDS = Gauge(
    "captiond_queue_oldest_seconds",
    Area.QUEUES,
    "Age of the oldest image that waits, by lane; 0 if none does. In the bulk lane, the age of the "
    "oldest task that has a waiting image.",
    ("lane",),
)
IMAGES_IN_PROGRESS = Gauge(
    "captiond_images_in_progress",
    Area.QUEUES,
    "Images that model processes have, by lane.",
    ("lane",),
)

IMPORT_SHARDS = Gauge(
    "captiond_import_shards",
    Area.QUEUES,
    "Shards of unfinished imports that the service works at, by state: waiting, claimed, finished.",
    ("state",),
)

# ---------------------------------------------------------------- model processes

BATCHES = Counter(
    "captiond_batches_total",
    Area.MODEL,
    "Batches that a model process has captioned.",
    ("process", "lane"),
)
BATCH_IMAGES = Histogram(
    "captiond_batch_images", Area.MODEL, "Images in a batch.", IMAGES, ("process", "lane")
)
BATCH_SECONDS = Histogram(
    "captiond_batch_seconds",
    Area.MODEL,
    "Time that the model has spent on a batch.",
    SECONDS,
    ("lane",),
)
MODEL_BUSY = Counter(
    "captiond_model_busy_seconds_total",
    Area.MODEL,
    "Time that a model process has spent on captioning batches.",
    ("process",),
)
MODEL_IDLE = Counter(
    "captiond_model_idle_seconds_total",
    Area.MODEL,
    "Time that a model process has waited between two batches, by cause: clients (there is no "
    "image), decoding, more (a batch that is not full waits for more images), other.",
    ("process", "cause"),
)
DEVICE_MEMORY = Gauge(
    "captiond_device_memory_bytes",
    Area.MODEL,
    "Memory of a GPU: allocated (tensors of the model process), reserved (the process has it from "
    "the driver). Absent for a model on the CPU.",
    ("process", "state"),
)

# ---------------------------------------------------------------- HTTP

REQUESTS = Counter(
    "captiond_http_requests_total",
    Area.HTTP,
    "HTTP requests, by method, route and status. The route of an unknown path is unmatched. The "
    "status is disconnected if the client went before the answer.",
    ("method", "route", "status"),
)
REQUEST_SECONDS = Histogram(
    "captiond_http_request_duration_seconds",
    Area.HTTP,
    "Time from the head of a request to the end of its answer. It includes the upload, and the "
    "time for which clients wait on purpose: events, and ?wait=.",
    SECONDS,
    ("method", "route"),
)
REQUEST_ERRORS = Counter(
    "captiond_http_errors_total",
    Area.HTTP,
    "HTTP requests that were answered with an error, by the error's code.",
    ("code",),
    (("queue_full",),),
)
CLIENTS_LIMITED = Counter(
    "captiond_clients_limited_total",
    Area.HTTP,
    "Requests that were refused because their client is over a limit: requests, concurrent, "
    "images, body_bytes, or task_images (images that wait in tasks).",
    ("limit",),
    (("requests", "concurrent", "images", "body_bytes", "task_images"),),
)
FILES_REFUSED = Counter(
    "captiond_files_refused_total",
    Area.HTTP,
    "Uploaded files that were refused before they reached a model process, by the error's code.",
    ("code",),
)
UPLOAD_BYTES = Counter(
    "captiond_upload_bytes_total",
    Area.HTTP,
    "Bytes of request bodies that web processes have received.",
)
CONNECTIONS = Gauge("captiond_connections", Area.HTTP, "Open connections of all web processes.")
CONNECTIONS_LIMIT = Gauge(
    "captiond_connections_limit", Area.HTTP, "Connections that all web processes may have."
)

# ---------------------------------------------------------------- storage and webhooks

SPOOL_BYTES = Gauge("captiond_spool_bytes", Area.STORAGE, "The size of all files in the spool.")
SPOOL_LIMIT_BYTES = Gauge(
    "captiond_spool_limit_bytes", Area.STORAGE, "[limits] spool_bytes; 0 is no limit."
)
DISK_FREE_BYTES = Gauge(
    "captiond_disk_free_bytes", Area.STORAGE, "Free space of the disk that has the spool."
)
DISK_BYTES = Gauge("captiond_disk_size_bytes", Area.STORAGE, "Size of the disk that has the spool.")
OBJECT_FAILURES = Counter(
    "captiond_object_storage_failures_total",
    Area.STORAGE,
    "Requests to the object storage of uploads that failed after all retries, by operation: write "
    "(the task was refused) or read (the image waits, and it is tried again).",
    ("operation",),
    (("write", "read"),),
)
OBJECT_READ_SECONDS = Histogram(
    "captiond_object_read_seconds",
    Area.STORAGE,
    "Time that a model process takes to fetch one image from object storage.",
    SECONDS,
)
DATABASE_BYTES = Gauge(
    "captiond_database_bytes", Area.STORAGE, "The size of the database, with its write-ahead log."
)
WEBHOOK_CALLS = Counter(
    "captiond_webhook_calls_total",
    Area.STORAGE,
    "Calls of webhooks, by outcome: delivered, failed (and called again later), given_up.",
    ("outcome",),
    (("delivered", "failed", "given_up"),),
)
WEBHOOK_SECONDS = Histogram(
    "captiond_webhook_call_seconds", Area.STORAGE, "Time that a call of a webhook takes.", SECONDS
)
WEBHOOKS_PENDING = Gauge(
    "captiond_webhooks_pending", Area.STORAGE, "Webhooks that are not delivered and not given up."
)

# ---------------------------------------------------------------- processes

RESTARTS = Counter(
    "captiond_process_restarts_total",
    Area.PROCESSES,
    "Child processes that were replaced, by kind (web, model, decoder) and by how they ended: "
    "crashed, hung, killed, orderly.",
    ("kind", "death"),
    (("web", "model", "decoder"), ("crashed", "hung", "killed", "orderly")),
)
PROCESSES = Gauge(
    "captiond_processes",
    Area.PROCESSES,
    "Processes of the service, by kind: supervisor, web, model, standby, decoder, other.",
    ("kind",),
)
PROCESS_CPU = Counter(
    "captiond_process_cpu_seconds_total",
    Area.PROCESSES,
    "Processor time of the processes of a kind, also of those that have exited. It is measured "
    "when metrics are read, so the end of a process that has exited since then is missing.",
    ("kind",),
)
PROCESS_MEMORY = Gauge(
    "captiond_process_resident_memory_bytes",
    Area.PROCESSES,
    "Resident memory of the processes of a kind. Memory that processes share counts in each.",
    ("kind",),
)

METRICS: Mapping[str, Metric] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}

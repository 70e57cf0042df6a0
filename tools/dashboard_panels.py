"""The panels of the dashboard for Grafana, with their queries."""

from dataclasses import dataclass

RATE = "[$__rate_interval]"
ON = 'instance=~"$instance"'
RED, AMBER, GREEN = "red", "orange", "green"


@dataclass(frozen=True)
class Query:
    """A query in PromQL, and the name of its series in the legend."""

    text: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. `width` is a number of columns, of which there are 24.

    A `stat` shows the last value only. `thresholds` are the colours from certain values on, the
    first one from the lowest.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    stat: bool = False
    stacked: bool = False
    text: str = ""
    thresholds: tuple[tuple[str, float | None], ...] = ()
    names: bool = False  # a stat shows the names of the series, not their values


@dataclass(frozen=True)
class Section:
    """A row of the dashboard with its panels."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers(labels)}}}{RATE}))"


def matchers(labels: str) -> str:
    return f"{ON}, {labels}" if labels else ON


def quantile(share: float, metric: str, by: str = "", labels: str = "") -> str:
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', grouping, labels)})"


def mean(metric: str, by: str) -> str:
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def both_lanes(metric: str) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(share, metric, "lane"), f"{{{{lane}}}} p{round(share * 100)}")
        for share in (0.5, 0.95)
    )


def gauge(metric: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) ({metric}{{{matchers(labels)}}})"


NOT_PROBES = 'route!~"/health|/readyz|/livez|/metrics"'
SECTIONS = (
    Section(
        "Overview",
        (
            Panel(
                "Ready",
                (Query(f"min(captiond_ready{{{ON}}})"),),
                width=3,
                stat=True,
                thresholds=((RED, None), (GREEN, 1)),
                text="1 if all services can caption images.",
            ),
            Panel(
                "Model",
                (Query(f"captiond_model_info{{{ON}}}", "{{model}} ({{device}}, {{precision}})"),),
                width=6,
                stat=True,
                names=True,
                text="The model that captions.",
            ),
            Panel(
                "Images per second",
                (Query(f"sum(rate(captiond_images_finished_total{{{ON}}}{RATE}))"),),
                width=3,
                stat=True,
            ),
            Panel(
                "Waiting images",
                (Query(f"sum(captiond_queue_images{{{ON}}})"),),
                width=3,
                stat=True,
            ),
            Panel(
                "Errors",
                (
                    Query(
                        "sum(rate(captiond_http_requests_total"
                        f'{{{ON}, status=~"5..", {NOT_PROBES}}}{RATE})) / '
                        f"sum(rate(captiond_http_requests_total{{{ON}, {NOT_PROBES}}}{RATE}))"
                        " or vector(0)"
                    ),
                ),
                "percentunit",
                width=3,
                stat=True,
                thresholds=((GREEN, None), (AMBER, 0.01), (RED, 0.05)),
                text="The share of requests that failed with 5xx, without probes.",
            ),
            Panel(
                "Running for",
                (Query(f"time() - min(captiond_start_time_seconds{{{ON}}})"),),
                "s",
                width=3,
                stat=True,
            ),
            Panel(
                "Version",
                (Query(f"captiond_build_info{{{ON}}}", "{{version}}"),),
                width=3,
                stat=True,
                names=True,
            ),
        ),
    ),
    Section(
        "Images",
        (
            Panel(
                "Finished images by outcome",
                (
                    Query(
                        rate("captiond_images_finished_total", "lane, outcome"),
                        "{{lane}} {{outcome}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "From acceptance to the outcome",
                both_lanes("captiond_image_seconds"),
                "s",
                text="A task's images wait for each other, so they take as long as their task.",
            ),
            Panel("Wait for a model process", both_lanes("captiond_image_wait_seconds"), "s"),
            Panel(
                "Stages of an image, p95",
                (Query(quantile(0.95, "captiond_stage_seconds", "stage"), "{{stage}}"),),
                "s",
            ),
            Panel(
                "Cache",
                (Query(rate("captiond_cache_lookups_total", "result"), "{{result}}"),),
                stacked=True,
            ),
            Panel(
                "Translations",
                (
                    Query(
                        rate("captiond_translations_total", "language, outcome"),
                        "{{language}}: {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Failures",
                (
                    Query(rate("captiond_tagging_failures_total", "instance"), "no tags"),
                    Query(rate("captiond_images_requeued_total", "instance"), "requeued"),
                    Query(rate("captiond_files_refused_total", "code"), "refused: {{code}}"),
                ),
            ),
        ),
    ),
    Section(
        "Queues",
        (
            Panel("Waiting images", (Query(gauge("captiond_queue_images", "lane"), "{{lane}}"),)),
            Panel(
                "Age of the oldest image",
                (Query(f"max by (lane) (captiond_queue_oldest_seconds{{{ON}}})", "{{lane}}"),),
                "s",
            ),
            Panel(
                "Images that model processes have",
                (Query(gauge("captiond_images_in_progress", "lane"), "{{lane}}"),),
            ),
            Panel(
                "Shards of imports",
                (Query(gauge("captiond_import_shards", "state"), "{{state}}"),),
            ),
        ),
    ),
    Section(
        "Model processes",
        (
            Panel(
                "What the model does",
                (
                    Query(rate("captiond_model_busy_seconds_total", "process"), "{{process}} busy"),
                    Query(
                        rate("captiond_model_idle_seconds_total", "process, cause"),
                        "{{process}} waits: {{cause}}",
                    ),
                ),
                "percentunit",
                stacked=True,
                text="clients: there is no image. decoding: more decoders or cores would help. "
                "more: a batch that is not full waits for more images.",
            ),
            Panel(
                "Images in a batch",
                (Query(mean("captiond_batch_images", "process, lane"), "{{process}} {{lane}}"),),
            ),
            Panel("Time of a batch", both_lanes("captiond_batch_seconds"), "s"),
            Panel(
                "Batches per second",
                (Query(rate("captiond_batches_total", "process, lane"), "{{process}} {{lane}}"),),
            ),
            Panel(
                "Tokens per second",
                (Query(rate("captiond_caption_tokens_total", "instance"), "{{instance}}"),),
            ),
            Panel(
                "Memory of the GPU",
                (
                    Query(
                        gauge("captiond_device_memory_bytes", "process, state"),
                        "{{process}} {{state}}",
                    ),
                ),
                "bytes",
            ),
        ),
    ),
    Section(
        "HTTP",
        (
            Panel(
                "Requests by status",
                (Query(rate("captiond_http_requests_total", "status"), "{{status}}"),),
                stacked=True,
            ),
            Panel(
                "Requests by operation",
                (
                    Query(
                        rate("captiond_http_requests_total", "method, route"),
                        "{{method}} {{route}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Duration of requests, p95",
                (
                    Query(
                        quantile(0.95, "captiond_http_request_duration_seconds", "method, route"),
                        "{{method}} {{route}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "Errors by code", (Query(rate("captiond_http_errors_total", "code"), "{{code}}"),)
            ),
            Panel(
                "Clients over a limit",
                (Query(rate("captiond_clients_limited_total", "limit"), "{{limit}}"),),
            ),
            Panel(
                "Uploads",
                (Query(rate("captiond_upload_bytes_total", "instance"), "{{instance}}"),),
                "Bps",
            ),
            Panel(
                "Connections",
                (
                    Query(gauge("captiond_connections", "instance"), "{{instance}}"),
                    Query(gauge("captiond_connections_limit", "instance"), "{{instance}} limit"),
                ),
            ),
        ),
    ),
    Section(
        "Storage and webhooks",
        (
            Panel(
                "Sizes",
                (
                    Query(gauge("captiond_spool_bytes", "instance"), "spool"),
                    Query(gauge("captiond_database_bytes", "instance"), "database"),
                ),
                "bytes",
            ),
            Panel(
                "Object storage",
                (
                    Query(
                        rate("captiond_object_storage_failures_total", "operation"),
                        "{{operation}} failed",
                    ),
                ),
            ),
            Panel(
                "Time to fetch an image from object storage, p95",
                (Query(quantile(0.95, "captiond_object_read_seconds"), "p95"),),
                "s",
            ),
            Panel(
                "Free space of the disk",
                (
                    Query(
                        f"captiond_disk_free_bytes{{{ON}}} / captiond_disk_size_bytes{{{ON}}}",
                        "{{instance}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Webhooks",
                (
                    Query(rate("captiond_webhook_calls_total", "outcome"), "{{outcome}} a second"),
                    Query(gauge("captiond_webhooks_pending", "instance"), "pending"),
                ),
            ),
            Panel(
                "Time of a webhook, p95",
                (Query(quantile(0.95, "captiond_webhook_call_seconds"), "p95"),),
                "s",
            ),
        ),
    ),
    Section(
        "Processes",
        (
            Panel(
                "Processor time",
                (Query(rate("captiond_process_cpu_seconds_total", "kind"), "{{kind}}"),),
                "percentunit",
                stacked=True,
                text="100 % is one core.",
            ),
            Panel(
                "Memory",
                (Query(gauge("captiond_process_resident_memory_bytes", "kind"), "{{kind}}"),),
                "bytes",
                stacked=True,
                text="Memory that processes share counts in each of them.",
            ),
            Panel(
                "Processes",
                (Query(gauge("captiond_processes", "kind"), "{{kind}}"),),
            ),
            Panel(
                "Processes that were replaced",
                (
                    Query(
                        f"sum by (kind, death) (increase(captiond_process_restarts_total{{{ON}}}"
                        f"{RATE}))",
                        "{{kind}} {{death}}",
                    ),
                ),
            ),
        ),
    ),
)

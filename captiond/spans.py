"""The spans of captiond, made with OpenTelemetry. Only a process that makes traces imports this.

An image has one trace, from its upload to its result:

    POST /caption            web process; its parent is the client's span, if there is one
    ├─ upload                web process
    └─ image                 model process, from the acceptance to the outcome
       ├─ queue              until a model process has the image
       ├─ decode             with the wait for a decoder
       ├─ wait for the batch
       ├─ model              linked with the batch
       ├─ translation        if captions of the batch are translated
       └─ tags
    batch                    a trace of its own, linked with its images
    webhook                  supervisor; a child of the request that sent the task

The spans of an image are made when it is finished, from times that are measured anyway.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import captiond
from captiond.clients import RequestOrigin
from captiond.jobs import Captioned, Outcome
from captiond.messages import Timings, Work
from captiond.tracing import EXPORTERS

CLOSE_SECONDS = 2.0  # that the last spans may take when a process ends
EXPORTER_GROUP = "opentelemetry_traces_exporter"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROPAGATOR = TraceContextTextMapPropagator()
ROOT = Context()  # has no span, whatever the context of the caller has
FinishedWork = tuple[Work, Outcome, Timings]
UnixTime = Callable[[float], int]


class Traces:
    """Makes the spans of one process, and exports them in a thread."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("captiond", captiond.__version__)
        self._accepted: dict[str, float] = {}  # when a model process got an image, by its ticket

    @classmethod
    def started(cls, process: str, environ: Mapping[str, str]) -> "Traces":
        """Return the traces of a process that are exported as the variables say.

        Raises:
            ImportError: an exporter lacks a package that it needs.
            LookupError: there is no exporter of that name.
            ValueError: a variable has a wrong value.
        """
        attributes = {"service.version": captiond.__version__, "captiond.process": process}
        resource = Resource.create({**attributes, **named(environ)})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters(environ):
            provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def close(self) -> None:
        """Export what is left. A collector that does not answer does not hold up the end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    # ------------------------------------------------------------ web processes

    def begin_request(self, method: str, headers: Mapping[str, str]) -> Span:
        """Begin the span of a request. Without `end_request` it is never exported."""
        parent = PROPAGATOR.extract(dict(headers), ROOT)
        attributes = {"http.request.method": method}
        return self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)

    def end_request(
        self, span: Span, *, name: str, status: int | None, code: str | None, request_id: str
    ) -> None:
        """End the span of a request. `code` is that of its error, if it has one."""
        span.update_name(name)
        span.set_attribute("captiond.request_id", request_id)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if code is not None:
            span.set_attribute("error.type", code)
        if status is None or status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def origin_of(self, span: Span, request_id: str) -> RequestOrigin:
        """Return what goes with the images of a request, so that they continue its trace."""
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, set_span_in_context(span, ROOT))
        state = carrier.get("tracestate", "")
        return RequestOrigin(request_id, carrier.get("traceparent", ""), state)

    def trace_id_of(self, span: Span) -> str:
        """Return the id of a span's trace, as logs show it."""
        return f"{span.get_span_context().trace_id:032x}"

    def add_child(self, parent: Span, name: str, begun: float, ended: float) -> None:
        """Add a child that is over. Times are those of `time.perf_counter`."""
        context = set_span_in_context(parent, ROOT)
        self._stage(context, name, begun, ended, unix_clock())

    # ------------------------------------------------------------ model processes

    def image_accepted(self, work: Work) -> None:
        """Note when this process got an image."""
        if is_traced(work):
            self._accepted[work.ticket] = time.monotonic()

    def images_finished(self, finished: Iterable[FinishedWork]) -> None:
        """Make the spans of images that were in no batch."""
        now, at = time.monotonic(), unix_clock()
        for work, outcome, _ in finished:
            if is_traced(work):
                self._image(work, outcome, now, at).end(at(now))

    def batch_finished(self, finished: Sequence[FinishedWork], process: str) -> None:
        """Make the spans of a batch and of its images. Their tags have just been made."""
        now, at = time.monotonic(), unix_clock()
        images = [
            (self._image(work, outcome, now, at), timings)
            for work, outcome, timings in finished
            if is_traced(work)
        ]
        traced = [(span, each) for span, each in images if span.is_recording()]
        if not traced:
            return
        times = stages(traced[0][1], now)
        batch = self._batch(finished, at(times["model"][0]), process)
        for span, timings in traced:
            context = set_span_in_context(span, ROOT)
            for name, (begun, ended) in stages(timings, now).items():
                links = [Link(batch.get_span_context())] if name == "model" else []
                self._stage(context, name, begun, ended, at, links)
            batch.add_link(span.get_span_context())
            span.end(at(now))
        batch.end(at(times["model"][1]))

    def _batch(self, finished: Sequence[FinishedWork], begun: int, process: str) -> Span:
        attributes = {
            "captiond.process": process,
            "captiond.lane": finished[0][0].lane.value,
            "captiond.images": len(finished),
        }
        return self._tracer.start_span("batch", ROOT, attributes=attributes, start_time=begun)

    def _image(self, work: Work, outcome: Outcome, now: float, at: UnixTime) -> Span:
        """Begin the span of an image, and add the time until this process had it."""
        accepted = self._accepted.pop(work.ticket, now)
        since = work.since or accepted
        parent = parent_of(work.options.origin)
        attributes = {"captiond.lane": work.lane.value, **outcome_attributes(outcome)}
        if work.task_id is not None:
            attributes["captiond.attempt"] = str(work.attempt)
        span = self._tracer.start_span("image", parent, attributes=attributes, start_time=at(since))
        if span.is_recording():
            self._stage(set_span_in_context(span, ROOT), "queue", since, accepted, at)
        return span

    # ------------------------------------------------------------ the supervisor

    @contextmanager
    def webhook(self, origin: RequestOrigin | None, host: str) -> Iterator["TracedCall"]:
        """Trace the call of a webhook. An exception in the block is recorded."""
        attributes = {"http.request.method": "POST", "server.address": host}
        with self._tracer.start_as_current_span(
            "webhook", parent_of(origin), SpanKind.CLIENT, attributes
        ) as span:
            headers: dict[str, str] = {}
            PROPAGATOR.inject(headers, set_span_in_context(span, ROOT))
            yield TracedCall(span, headers)

    def _stage(
        self,
        context: Context,
        name: str,
        begun: float,
        ended: float,
        at: UnixTime,
        links: Sequence[Link] = (),
    ) -> None:
        span = self._tracer.start_span(name, context, links=links, start_time=at(begun))
        span.end(at(ended))


@dataclass(frozen=True)
class TracedCall:
    """A call that is traced. `headers` continue the trace in the receiver."""

    span: Span
    headers: dict[str, str]

    def answered(self, status: int) -> None:
        """Note the status of the response."""
        self.span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self.span.set_status(StatusCode.ERROR)


def parent_of(origin: RequestOrigin | None) -> Context:
    """Return the context in which a child of a request's span begins."""
    if origin is None or not origin.traceparent:
        return ROOT
    carrier = {"traceparent": origin.traceparent, "tracestate": origin.tracestate}
    return PROPAGATOR.extract(carrier, ROOT)


def is_traced(work: Work) -> bool:
    return work.options.origin is not None and bool(work.options.origin.traceparent)


def stages(timings: Timings, ended: float) -> dict[str, tuple[float, float]]:
    """Return when each stage of an image began and ended, if the last one has just ended."""
    tags = ended - timings.tags
    translation = tags - timings.translation
    model = translation - timings.model
    queue = model - timings.queue
    spans = {
        "decode": (queue - timings.decode, queue),
        "wait for the batch": (queue, model),
        "model": (model, translation),
        "translation": (translation, tags),
        "tags": (tags, ended),
    }
    if not timings.translation:
        del spans["translation"]
    return spans


def outcome_attributes(outcome: Outcome) -> dict[str, str]:
    if isinstance(outcome, Captioned):
        return {"captiond.outcome": "cached" if outcome.cached else "captioned"}
    return {"captiond.outcome": outcome.code, "error.type": outcome.code}


def unix_clock() -> UnixTime:
    """Return what makes nanoseconds of Unix time from a time of `time.monotonic`.

    `time.perf_counter` is the same clock on Linux. All spans that are made together use the same
    difference between the clocks, so that they keep their order.
    """
    difference = time.time_ns() - time.monotonic_ns()
    return lambda moment: difference + int(moment * 1e9)


def named(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the name of the service unless the variables have one."""
    given = f"{environ.get('OTEL_SERVICE_NAME', '')}{environ.get('OTEL_RESOURCE_ATTRIBUTES', '')}"
    is_named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in given
    return {} if is_named else {SERVICE_NAME: "captiond"}


def exporters(environ: Mapping[str, str]) -> Iterator[SpanExporter]:
    """Yield the exporters that the variables name.

    Raises:
        ImportError: one of them lacks a package that it needs.
        LookupError: there is none of that name.
    """
    for name in environ.get(EXPORTERS, "").split(",") if environ.get(EXPORTERS) else ["otlp"]:
        wanted = name.strip()
        if wanted == "otlp":
            wanted = f"otlp_proto_{protocol(environ)}"
        found = [*entry_points(group=EXPORTER_GROUP, name=wanted)]
        if not found:
            raise LookupError(f"there is no exporter {wanted}; install the package that has it")
        yield found[0].load()()


def protocol(environ: Mapping[str, str]) -> str:
    """Return how OTLP is sent: `http`, the default, or what the variables say, such as `grpc`."""
    chosen = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
    return chosen.partition("/")[0]

"""A real receiver of traces: OTLP over HTTP, as a collector has it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.service import wait_for


@dataclass(frozen=True)
class ReceivedSpan:
    """A span. Ids are in hex, times in nanoseconds. `resource` describes the process."""

    name: str
    trace: str
    id: str
    parent: str
    begun: int
    ended: int
    links: tuple[tuple[str, str], ...]  # the traces and the spans
    attributes: dict[str, str]
    resource: dict[str, str]


class Collector:
    """`spans` are those that have arrived so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[ReceivedSpan] = []

    def wait_for(self, trace: str, *names: str) -> list[ReceivedSpan]:
        """Wait until a trace has spans of these names. Return all that it has."""

        def look() -> list[ReceivedSpan] | None:
            spans = [span for span in list(self.spans) if span.trace == trace]
            found = sorted(span.name for span in spans)
            return spans if all(found.count(name) >= names.count(name) for name in names) else None

        return wait_for(look, f"the spans {names} of the trace {trace}")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.spans.extend(spans_in(ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def spans_in(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_process in request.resource_spans:
        resource = attributes(of_process.resource.attributes)
        for scope in of_process.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes(span.attributes),
                    resource,
                )


def attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    return {pair.key: str(value_of(pair)) for pair in pairs}


def value_of(pair: KeyValue) -> object:
    kind = pair.value.WhichOneof("value")
    return getattr(pair.value, kind) if kind else None

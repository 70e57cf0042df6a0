"""Traces of OpenTelemetry through all processes, received as a collector receives them."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import png
from tests.otlp import Collector, ReceivedSpan, collecting
from tests.receiver import Receiver, receiving
from tests.service import Service, running

STAGES = ("queue", "decode", "wait for the batch", "model", "tags")


@dataclass(frozen=True)
class Traced:
    """A service with its collector, and a receiver of webhooks."""

    service: Service
    collector: Collector
    receiver: Receiver


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with collecting() as collector, receiving() as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "CAPTIOND_WEBHOOKS__ALLOW": "127.0.0.1",
        }
        with running(tmp_path_factory.mktemp("traced") / "data", **environ) as service:
            yield Traced(service, collector, receiver)
            assert service.stop() == 0


def traceparent(*, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """Return the ids of a client's trace and span, and the header that has them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}"}


def of_name(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    (span,) = (span for span in spans if span.name == name)
    return span


def test_an_image_has_one_trace_through_all_processes(traced: Traced) -> None:
    trace, client, headers = traceparent()
    response = traced.service.client.post(
        "/caption", files={"image": ("a.png", png(8001))}, headers=headers
    )
    spans = traced.collector.wait_for(trace, "POST /caption", "upload", "image", *STAGES)
    request, image = of_name(spans, "POST /caption"), of_name(spans, "image")
    assert request.parent == client
    assert request.attributes["captiond.request_id"] == response.headers["x-request-id"]
    assert request.attributes["http.response.status_code"] == "200"
    assert of_name(spans, "upload").parent == image.parent == request.id
    assert image.attributes["captiond.outcome"] == "captioned"
    moment = image.begun
    for stage in (of_name(spans, name) for name in STAGES):
        assert stage.parent == image.id
        assert moment <= stage.begun <= stage.ended <= image.ended
        moment = stage.ended
    assert request.resource["captiond.process"].startswith("web0-")
    assert image.resource["captiond.process"].startswith("model0-")
    for span in (request, image):
        assert span.resource["service.name"] == "captiond"
        assert span.resource["deployment.environment.name"] == "test"
    ids = {entry["trace_id"] for entry in traced.service.logged("request") if "trace_id" in entry}
    assert trace in ids


def test_a_batch_is_linked_with_its_images(traced: Traced) -> None:
    trace, _, headers = traceparent()
    files = [("images", ("a.png", png(8100 + number))) for number in range(3)]
    traced.service.client.post("/batch-caption", files=files, headers=headers)
    spans = traced.collector.wait_for(trace, *["image"] * 3, *["model"] * 3)
    images = {span.id for span in spans if span.name == "image"}
    of_batches = {link for span in spans if span.name == "model" for link in span.links}
    linked = set()
    for batch_trace, batch in of_batches:
        found = traced.collector.wait_for(batch_trace, "batch")
        assert [span.id for span in found] == [batch]
        linked |= {span for image_trace, span in found[0].links if image_trace == trace}
    assert linked == images


def test_a_known_image_has_a_trace_without_stages(traced: Traced) -> None:
    files = {"image": ("a.png", png(8200))}
    with traced.service.caching():
        traced.service.client.post("/caption", files=files)
    trace, _, headers = traceparent()
    traced.service.client.post("/caption", files=files, headers=headers)
    spans = traced.collector.wait_for(trace, "POST /caption", "image")
    assert of_name(spans, "image").attributes["captiond.outcome"] == "cached"
    assert not {span.name for span in spans} & {"decode", "model", "tags"}


def test_the_trace_of_a_task_goes_on_in_its_webhook(traced: Traced) -> None:
    trace, _, headers = traceparent()
    accepted = traced.service.client.post(
        "/async-batch-caption",
        files={"images": ("a.png", png(8300))},
        data={"callback_url": traced.receiver.url()},
        headers=headers,
    )
    traced.service.finished(accepted.json()["task_id"])
    spans = traced.collector.wait_for(
        trace, "POST /async-batch-caption", "upload", "image", "webhook", *STAGES
    )
    request, webhook = of_name(spans, "POST /async-batch-caption"), of_name(spans, "webhook")
    assert of_name(spans, "image").parent == webhook.parent == request.id
    assert webhook.resource["captiond.process"] == "supervisor"
    assert webhook.attributes["http.response.status_code"] == "204"
    (call,) = traced.receiver.calls
    assert call.headers["traceparent"] == f"00-{trace}-{webhook.id}-01"


def test_what_the_client_does_not_want_traced_is_not_traced(traced: Traced) -> None:
    """And probes are not either. The trace that follows shows that all spans have arrived."""
    hidden, _, headers = traceparent(sampled=False)
    files = {"image": ("a.png", png(8400))}
    traced.service.client.post("/caption", files=files, headers=headers)
    probed, _, headers = traceparent()
    traced.service.client.get("/livez", headers=headers)
    last, _, headers = traceparent()
    traced.service.client.post("/caption", files=files, headers=headers)
    traced.collector.wait_for(last, "POST /caption", "image")
    assert not {hidden, probed} & {span.trace for span in traced.collector.spans}


def test_a_refused_image_shows_its_code(traced: Traced) -> None:
    trace, _, headers = traceparent()
    broken = png(8500)[:60]
    response = traced.service.client.post(
        "/caption", files={"image": ("a.png", broken)}, headers=headers
    )
    spans = traced.collector.wait_for(trace, "POST /caption", "image")
    code = response.json()["code"]
    assert of_name(spans, "image").attributes["error.type"] == code
    assert of_name(spans, "POST /caption").attributes["error.type"] == code

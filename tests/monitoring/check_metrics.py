"""Alerts and dashboard against a real Prometheus that scrapes a real captiond.

`make metrics-check` runs these tests. `make test` leaves them out, because they need `prometheus`
and `promtool` on the machine. PROMETHEUS and PROMTOOL name the programs.
"""

import math
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import png
from tests.marian import write_marian
from tests.monitoring.queries import (
    ALERT_TESTS,
    ALERTS,
    PROMETHEUS,
    Query,
    alerts,
    dashboard_queries,
    selectors,
)
from tests.receiver import Receiver, receiving
from tests.s3server import s3_server
from tests.service import Service, http_client, running, wait_for

# What has no value here, and why.
EMPTY = {
    "captiond_device_memory_bytes": "the model is on the CPU",
    'captiond_model_info{fallback="true"}': "the model of the settings captions",
    'captiond_http_requests_total{status=~"5..", route!~"/health|/readyz|/livez|/metrics"}': (
        "no request fails"
    ),
}
VARIABLES = {"$__rate_interval": "20s", "$instance": ".*"}  # as Grafana fills them in
SCRAPE_SECONDS = 1
LANGUAGE = "de"
LIMITED = {
    "CAPTIOND_CLIENTS__REQUESTS": "0",
    "CAPTIOND_WEBHOOKS__ALLOW": "127.0.0.1",
    "CAPTIOND_WEBHOOKS__FIRST_RETRY_SECONDS": "0.1",
}


def promtool(*arguments: str, **options: Any) -> None:
    program = os.environ.get("PROMTOOL", "promtool")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_files() -> None:
    promtool("check", "config", "--lint-fatal", str(PROMETHEUS))
    promtool("check", "rules", "--lint-fatal", str(ALERTS))


def test_each_alert_fires_when_it_has_to() -> None:
    promtool("test", "rules", str(ALERT_TESTS))


@dataclass(frozen=True)
class Monitored:
    """A service, the receiver of its webhooks, and the API of the Prometheus that scrapes it."""

    service: Service
    receiver: Receiver
    api: httpx.Client

    def series(self, text: str) -> list[dict[str, Any]]:
        """Return the series of a query whose value is a number."""
        for variable, value in VARIABLES.items():
            text = text.replace(variable, value)
        response = self.api.get("/api/v1/query", params={"query": text})
        answer = response.json()
        assert answer["status"] == "success", (text, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return [each for each in result if not math.isnan(float(each["value"][1]))]

    def work(self, number: int) -> None:
        """Let the service do everything that is measured, with images that it does not know."""
        client = self.service.client
        for image in (png(number), png(number), b"no image"):
            client.post(
                "/caption",
                files={"image": ("a.png", image)},
                data={"caption_language": LANGUAGE},
            )
        accepted = client.post(
            "/async-batch-caption",
            files=[("images", ("a.png", png(number + 1))), ("images", ("b.png", b"no image"))],
            data={"callback_url": self.receiver.url()},
        )
        self.service.finished(accepted.json()["task_id"])


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("monitored")
    translation = {
        "CAPTIOND_TRANSLATION__MODELS": f"{LANGUAGE}={write_marian(folder / 'translation')}"
    }
    with (
        s3_server() as storage,
        running(folder / "data", **LIMITED, **translation, **storage.environ()) as service,
        receiving() as receiver,
        prometheus(folder, service) as api,
    ):
        yield Monitored(service, receiver, api)
        assert service.stop() == 0


@contextmanager
def prometheus(folder: Path, service: Service) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes the service every second. It has the configuration of captiond."""
    config = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    config["global"] = {
        "scrape_interval": f"{SCRAPE_SECONDS}s",
        "scrape_timeout": f"{SCRAPE_SECONDS}s",
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
    }
    config["rule_files"] = [str(ALERTS)]
    (job,) = config["scrape_configs"]
    del job["scrape_timeout"]
    job["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        os.environ.get("PROMETHEUS", "prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process,
        http_client(base_url=f"http://{address}") as api,
    ):
        try:
            wait_for(lambda: is_ready(process, api), "Prometheus")
            yield api
        finally:
            process.terminate()


def is_ready(process: "subprocess.Popen[bytes]", api: httpx.Client) -> bool:
    assert process.poll() is None, "Prometheus has ended"
    try:
        return api.get("/-/ready").is_success
    except httpx.ConnectError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_service_gives_valid_metrics(monitored: Monitored) -> None:
    monitored.work(10_000)
    text = monitored.service.client.get("/metrics").text
    promtool("check", "metrics", input=text)


def test_prometheus_scrapes_the_service(monitored: Monitored) -> None:
    wait_for(lambda: monitored.series("up == 1"), "a scrape")
    targets = monitored.api.get("/api/v1/targets").json()["data"]["activeTargets"]
    assert [(each["health"], each["lastError"]) for each in targets] == [("up", "")]


def test_every_query_of_the_dashboard_has_an_answer(monitored: Monitored) -> None:
    """Except those that EMPTY explains."""
    wanted = [query for query in dashboard_queries() if not is_empty(query)]
    assert len(wanted) > 40
    number = 20_000

    def unanswered() -> list[Query]:
        nonlocal number
        number += 10
        monitored.work(number)
        return [query for query in wanted if not monitored.series(query.text)]

    left: list[Query] = wanted

    def all_answered() -> bool:
        nonlocal left
        left = unanswered()
        return not left

    try:
        wait_for(all_answered, "an answer to every query")
    except AssertionError:
        raise AssertionError(f"no answer: {left}") from None


def is_empty(query: Query) -> bool:
    return any(name in EMPTY for name, _ in selectors(query))


def test_every_series_that_an_alert_looks_at_is_there(monitored: Monitored) -> None:
    for query in alerts().values():
        for name, braces in selectors(query):
            found = monitored.series(name + braces)
            assert bool(found) is (name + braces not in EMPTY), (query.place, name + braces)


def test_what_is_said_to_be_empty_is_empty(monitored: Monitored) -> None:
    assert [text for text in EMPTY if monitored.series(text)] == []


def test_prometheus_evaluates_every_rule_and_none_fires(monitored: Monitored) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        (group,) = monitored.api.get("/api/v1/rules").json()["data"]["groups"]
        rules: list[dict[str, Any]] = group["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_for(evaluated, "the evaluation of the rules")
    assert {rule["name"] for rule in rules} == set(alerts())
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    assert [name for name in firing if name != "CaptiondDiskFull"] == []

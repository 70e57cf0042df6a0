"""When traces are made, and what of them is stored with a task."""

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.clients import RequestOrigin
from captiond.jobs import DEFAULT_OPTIONS, NewImage, NewTask, Options, SpooledImage
from captiond.messages import Timings
from captiond.spans import stages
from captiond.store import claims, snapshots, tasks
from captiond.store.engine import Engine
from captiond.store.results import options_from, options_text
from captiond.tracing import start_tracing, tracing_wanted
from tests.patience import PATIENCE

ORIGIN = RequestOrigin("request-1", f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
URL = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "captions"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": URL}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": URL}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_only_the_variables_of_opentelemetry_turn_traces_on(
    environ: dict[str, str], wanted: bool
) -> None:
    assert tracing_wanted(environ) is wanted


def test_a_process_without_traces_imports_nothing_of_opentelemetry() -> None:
    code = (
        "import os, sys\n"
        "import captiond.cli.serve_command, captiond.web.server, captiond.worker.completion\n"
        "from captiond.tracing import start_tracing\n"
        "assert start_tracing('web0', {}) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "nothing"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_an_exporter_that_is_not_installed_stops_no_process(environ: dict[str, str]) -> None:
    with capture_logs() as logs:
        assert start_tracing("web0", environ) is None
    (entry,) = logs
    assert entry["event"] == "tracing_unavailable"
    assert "install the package" in entry["reason"]


def test_an_exporter_that_lacks_a_package_stops_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution = tmp_path / "broken-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(
        "[opentelemetry_traces_exporter]\nbroken = a_package_that_is_missing:Exporter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with capture_logs() as logs:
        assert start_tracing("web0", {"OTEL_TRACES_EXPORTER": "broken"}) is None
    (entry,) = logs
    assert entry["event"] == "tracing_unavailable"
    assert "a_package_that_is_missing" in entry["reason"]


def test_options_are_equal_whatever_they_come_with() -> None:
    assert Options(origin=ORIGIN) == DEFAULT_OPTIONS
    assert options_text(DEFAULT_OPTIONS) is None


def test_the_origin_is_stored_with_the_options() -> None:
    stored = options_text(Options(no_cache=True, origin=ORIGIN))
    assert stored is not None
    assert options_from(stored).origin == ORIGIN
    assert options_from(options_text(Options(origin=ORIGIN))).origin == ORIGIN
    assert options_from('{"no_cache": true}').origin is None, "an earlier version stored it"


@pytest.mark.anyio
async def test_a_task_keeps_its_trace_for_the_next_start(store: Engine) -> None:
    """A claim after a restart, and the webhook, get the context of the request."""
    image = NewImage("a.png", SpooledImage("spool", 0, 1, "0" * 64))
    task = NewTask("task_1", "spool", (image,), 1.0, options=Options(origin=ORIGIN))
    await tasks.create_task(store, task)
    claimed = await claims.claim(store, 1, owner="node/model0", now=2.0)
    assert [claim.options.origin for claim in claimed.claims] == [ORIGIN]
    assert [claim.accepted_at for claim in claimed.claims] == [1.0]
    assert await snapshots.read_origin(store, "task_1") == ORIGIN
    assert await snapshots.read_origin(store, "task_2") is None


@pytest.mark.parametrize("translation", [0.0, 8.0])
def test_the_stages_of_an_image_follow_one_another(translation: float) -> None:
    timings = Timings(decode=1.0, queue=2.0, model=4.0, translation=translation, tags=16.0)
    spans = stages(timings, ended=100.0)
    assert ("translation" in spans) is bool(translation)
    begun = [began for began, _ in spans.values()]
    ends = [end for _, end in spans.values()]
    assert begun[1:] == ends[:-1]
    assert (begun[0], ends[-1]) == (77.0 - translation, 100.0)
    assert [end - began for began, end in spans.values()] == [
        each for each in (1.0, 2.0, 4.0, translation, 16.0) if each
    ]

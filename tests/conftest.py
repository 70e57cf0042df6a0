"""Fixtures: one service for all tests that leave it as it was, and images to send.

With pytest-xdist, the tests of one file run in one process, since they share servers and models.
Only tests that start services of their own are spread freely.
"""

import gc
import logging
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, groupby, zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis
import pytest
import structlog
from execnet import XSpec
from PIL import Image
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from captiond.host.machine import available_bytes, usable_cores
from tests.forkserver import ForkServer
from tests.s3server import S3Server, s3_server
from tests.service import PATIENT, TWO, Service, running, wait_for
from tests.warmstart import warm_children

TESTS = Path(__file__).parent
COMPUTING = "model"  # a folder whose tests compute all the time
WAITING = ("faults", "nodes", "integration")  # folders whose tests wait for services
# Files of unit tests that take seconds: a process that began one at the end would be the last.
LONG = {
    f"test_{name}"
    for name in (
        "clock_jumps",
        "completion",
        "connections",
        "gpu_tool",
        "object_storage",
        "status_cache",
        "store",
        "tuned",
        "turns",
    )
}
KILLS = "tests/faults/test_kills.py"
# Files of tests that take long and share nothing.
SPREAD = tuple(f"tests/faults/test_{name}.py" for name in ("images", "kills"))
# Files, or tests of SPREAD, that share what takes long to make: texts, a trained model, a service.
TOGETHER = {
    "tests/model/test_graphs.py": "tests/model/test_search.py",
    "tests/integration/test_caption_languages.py": "tests/model/test_marian.py",
    "tests/unit/test_model_process.py": "tests/model/test_marian.py",
    "tests/integration/test_metrics.py": "tests/integration/test_following.py",
    "tests/integration/test_tags_api.py": "tests/integration/test_schemathesis.py",
    f"{KILLS}::test_decoders_are_killed": f"{KILLS}::test_web_processes_are_killed_during_uploads",
    f"{KILLS}::test_model_processes_are_stopped": (
        f"{KILLS}::test_web_processes_are_killed_during_uploads"
    ),
    f"{KILLS}::test_a_restart_storm_converges": f"{KILLS}::test_the_supervisor_is_killed",
    f"{KILLS}::test_ctrl_c_leaves_no_process_and_keeps_waiting_tasks": (
        f"{KILLS}::test_the_supervisor_is_killed"
    ),
}

File = list[pytest.Item]  # all tests of a file
CHANGED_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1
)  # fmt: skip
# Memory of a test process, with the services that its tests start and a share of the type checker.
BYTES_EACH = 3 << 30

# A busy machine is slow in any test: that is no fault of it. Only `make soak` looks for examples
# that no run has had; the others have the same ones each time.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    derandomize="FAULT_SOAK" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

# If rich is there, structlog prints the values of variables with each traceback. That takes seconds
# for an error of the database, and captiond leaves them out.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

# Test modules import torch, transformers and more. The collector of garbage would visit millions of
# objects again and again, which live as long as the process: a fifth of the time of the imports.
gc.disable()


def pytest_collection_finish() -> None:
    """Exempt all that has been imported from the search for garbage, which begins now."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first, and files whose tests compute beside those whose tests wait."""
    folders: dict[str, list[File]] = defaultdict(list)
    for _, tests in groupby(items, attrgetter("path")):
        file = list(tests)
        folders[folder_of(file[0])].append(file)
    waiting = [file for folder in WAITING for file in folders.pop(folder, ())]
    computing = folders.pop(COMPUTING, [])
    long: list[File] = []
    short: list[File] = []
    for file in chain(*folders.values()):
        (long if file[0].path.stem in LONG else short).append(file)
    items[:] = chain(*mixed(waiting, computing, 3), *mixed(long, short, 1))


def mixed(files: list[File], others: list[File], number: int) -> Iterator[File]:
    """Return files in an order in which one of the others follows so many of the first ones."""
    first = (files[begin::number] for begin in range(number))
    return chain(*zip_longest(*first, others, fillvalue=[]))


def folder_of(item: pytest.Item) -> str:
    """Return the folder of tests/ that a test is in."""
    return item.path.relative_to(TESTS).parts[0]


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each process one file after another, but the tests of some files one by one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        scope = nodeid if file in SPREAD else file
        return TOGETHER.get(scope, scope)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process that ended, and return the test that it died in, if any.

        Only tests that have not been run are given to another process. The library would also give
        files that are done, and a process that gets nothing but such a file waits forever.
        """
        left = {
            file: {test: False for test, done in tests.items() if not done}
            for file, tests in self.assigned_work.pop(node).items()
        }
        died_in = next((test for tests in left.values() for test in tests), None)
        for file, tests in left.items():
            tests.pop(died_in, None)
            if tests:
                self.workqueue[file] = tests
        for other in self.assigned_work:
            self._reschedule(other)
        return died_in


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return three for two cores, if there is memory for so many processes.

    Tests that start services wait for them part of their time. With more processes the whole takes
    longer, since each of them starts servers and trains models of its own.
    """
    return max(1, min(3 * usable_cores() // 2, available_bytes() // BYTES_EACH))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[XSpec]) -> None:
    """Have the test processes forked from one that has imported the tests."""
    server = ForkServer(config.args)
    config.add_cleanup(server.stop)
    for spec in specs:
        spec.python = server.python


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def uncached_loggers() -> Iterator[None]:
    """Let the loggers of modules follow each new configuration of the log.

    captiond configures it once for each process, so its loggers keep the first configuration. Tests
    run commands of captiond in their own process, one after the other.
    """
    configure = structlog.configure

    def configure_without_cache(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    with patch.object(structlog, "configure", configure_without_cache):
        yield


@pytest.fixture(autouse=True)
def usual_process() -> Iterator[None]:
    """Start each test with the usual umask, log, signals, variables and collector.

    Commands of captiond change them for their own process, which is that of the tests here. With
    the default action of SIGPIPE, a later test that writes to a closed socket would end them all.
    spaCy leaves the collector of garbage off if a pipeline is damaged.
    """
    os.umask(0o022)
    gc.enable()
    actions = {number: signal.getsignal(number) for number in CHANGED_SIGNALS}
    level, handlers = logging.root.level, logging.root.handlers
    with patch.dict(os.environ):
        yield
    for number, action in actions.items():
        signal.signal(number, action)
    if structlog.is_configured():
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.root.setLevel(level)
        logging.root.handlers = handlers


@pytest.fixture
def warm_models() -> Iterator[None]:
    """Fork the model processes that a test itself starts from the template of its process."""
    with warm_children():
        yield


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with its defaults, for tests that do not harm it.

    A test may suspend its model process for any time.
    """
    with running(tmp_path_factory.mktemp("service") / "data", **PATIENT) as running_service:
        yield running_service
        assert running_service.stop() == 0


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with two web processes, for tests that do not harm it."""
    with running(tmp_path_factory.mktemp("two") / "data", *TWO, **PATIENT) as running_service:
        wait_for(lambda: len(running_service.children("web")) == 2, "two web processes")
        yield running_service
        assert running_service.stop() == 0


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of object storage, for all tests of a process. They leave no object behind."""
    with s3_server() as server:
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a service that one test has to itself."""
    return tmp_path / "data"


def png(number: int, side: int = 96) -> bytes:
    """Return a small PNG image; each number gives another one."""
    image = Image.new("RGB", (side, side), (number % 256, number // 256 % 256, 90))
    image.paste((255, 255, 255), (10, 10, 20 + number % 50, 40))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle SIGINT: background jobs of a shell ignore it, and so do the processes they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

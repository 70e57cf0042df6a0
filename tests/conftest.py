"""Fixtures: one service for all tests that leave it as it was, and images to send.

With pytest-xdist (`--dist loadgroup`), the tests that share a server run in one process, and so do
the tests of one file. Only tests that start services of their own are spread freely.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.service import Service, running

TESTS = Path(__file__).parent
SHARED_SERVERS = ("hooked", "limited", "tagging", "worked", "service")  # names of fixtures
FIRST = ("model", "faults", "integration")  # folders; what takes long comes first
SPREAD = ("faults", "integration")  # folders whose tests start services of their own


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first, and say which tests must share a process."""
    items.sort(key=lambda item: [*FIRST, folder_of(item)].index(folder_of(item)))
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        server = next((name for name in SHARED_SERVERS if name in fixtures), None)
        if server or folder_of(item) not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(server or str(item.path)))


def folder_of(item: pytest.Item) -> str:
    """Return the folder of tests/ that a test is in."""
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with its defaults, for tests that do not harm it."""
    with running(tmp_path_factory.mktemp("service") / "data") as running_service:
        yield running_service
        assert running_service.stop() == 0


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

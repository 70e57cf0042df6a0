"""Fixtures: one service for all tests that leave it as it was, and images to send."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.service import Service, running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with its defaults, for tests that do not harm it."""
    with running(tmp_path_factory.mktemp("service") / "data") as running_service:
        yield running_service
        assert running_service.stop() == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder for a service of the test's own."""
    return tmp_path / "data"


def png(number: int, side: int = 96) -> bytes:
    """A small picture that is unlike any of another number."""
    image = Image.new("RGB", (side, side), (number % 256, number // 256 % 256, 90))
    image.paste((255, 255, 255), (10, 10, 20 + number % 50, 40))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

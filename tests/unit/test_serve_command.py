"""What `captiond serve` says if it cannot start."""

from pathlib import Path

import pytest

from captiond.cli.serve_command import write_address
from captiond.errors import StartupError


def test_an_address_that_cannot_be_written_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="address: cannot be written: No such file"):
        write_address(tmp_path / "missing" / "address", "http://127.0.0.1:8000")

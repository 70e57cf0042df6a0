"""The processes that tests run in: they are forked from one that has imported all tests."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.forkserver import ForkServer
from tests.patience import PATIENCE

PRODUCT = "import torch; print(torch.ones(500, 500).matmul(torch.ones(500, 500)).sum().item())"


def test_a_test_computes_although_a_module_has_done_so_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_product.py").write_text(PRODUCT)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    server = ForkServer([str(tmp_path)])
    try:
        process = subprocess.run(
            shlex.split(server.python),
            input=f"{PRODUCT!r}\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    finally:
        server.stop()
    assert process.stdout == "125000000.0\n"

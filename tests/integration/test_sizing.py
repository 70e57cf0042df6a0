"""A service whose settings name no batch size measures one, once."""

import json
from pathlib import Path

from captiond.worker.loading import DEFAULT_ON_CPU
from tests.conftest import png
from tests.service import running

FREE = {"CAPTIOND_MODEL__BATCH_SIZE": "0"}


def test_the_first_start_tries_and_the_next_remembers(data: Path) -> None:
    """A size that was measured on a busy machine is measured again by the next start."""
    sizes, records = [], [{"quiet": False}]
    for _ in range(2):
        with running(data, **FREE) as service:
            answer = service.client.post("/caption", files={"image": ("a.png", png(1))})
            assert answer.status_code == 200
            sizes.append(service.logged("model_ready")[0]["batch_size"])
            assert bool(service.logged("batch_size_tried")) == (not records[-1]["quiet"])
            assert service.stop() == 0
        records += json.loads((data / "tuning.json").read_text()).values()
    _, first, second = records
    assert first == second or not first["quiet"]
    for size, record in zip(sizes, (first, second), strict=True):
        assert 1 <= size <= 32
        assert size == record["batch_size"] or (not record["quiet"] and size == DEFAULT_ON_CPU)

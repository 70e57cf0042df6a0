"""A service whose settings name no batch size measures one, once."""

import json
from pathlib import Path

from tests.conftest import png
from tests.service import running

FREE = {"CAPTIOND_MODEL__BATCH_SIZE": "0"}


def test_the_first_start_tries_and_the_next_remembers(data: Path) -> None:
    sizes = []
    for tries in (True, False):
        with running(data, **FREE) as service:
            answer = service.client.post("/caption", files={"image": ("a.png", png(1))})
            assert answer.status_code == 200
            sizes.append(service.logged("model_ready")[0]["batch_size"])
            assert bool(service.logged("batch_size_tried")) == tries
            assert service.stop() == 0
    first, second = sizes
    assert first == second
    assert 1 <= first <= 32
    (record,) = json.loads((data / "tuning.json").read_text()).values()
    assert record["batch_size"] == first

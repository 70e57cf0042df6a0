"""What the running service answers is what the table of operations says."""

from typing import Any

import pytest

from tests.answers import BY_NAME, check
from tests.conftest import png
from tests.service import Service

FILE = ("a.png", png(1))
BROKEN = ("b.png", png(1, side=400)[:-80])
OPTIONS: list[dict[str, str]] = [
    {},
    {"num_beams": "3", "num_captions": "2"},
    {"num_beams": "99"},
    {"tag_kinds": "adjective"},
]


@pytest.mark.parametrize("name", ["page", "health", "livez", "readyz", "version"])
def test_calls_without_a_body(service: Service, name: str) -> None:
    response = service.client.get(BY_NAME[name].path)
    assert response.status_code == 200
    check(BY_NAME[name], response)


@pytest.mark.parametrize("options", OPTIONS)
def test_captions(service: Service, options: dict[str, Any]) -> None:
    for file in (FILE, BROKEN, ("c.png", b"")):
        single = service.client.post("/caption", files={"image": file}, data=options)
        check(BY_NAME["caption"], single)
    files = [("images", file) for file in (FILE, BROKEN, ("c.png", b""))]
    check(
        BY_NAME["batch_caption"], service.client.post("/batch-caption", files=files, data=options)
    )


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[1]])
def test_tasks(service: Service, options: dict[str, Any]) -> None:
    files = [("images", file) for file in (FILE, BROKEN, ("c.png", b""))]
    accepted = service.client.post("/async-batch-caption", files=files, data=options)
    check(BY_NAME["async_batch_caption"], accepted)
    task_id = accepted.json()["task_id"]
    check(BY_NAME["task_status"], service.client.get(f"/async-batch-caption/status/{task_id}"))
    service.finished(task_id)
    finished = service.client.get(f"/async-batch-caption/status/{task_id}")
    codes = [result.get("code") for result in finished.json()["result"]]
    assert codes == [None, "corrupt_image", "empty_image"]
    check(BY_NAME["task_status"], finished)
    cancelled = service.client.delete(f"/async-batch-caption/{task_id}")
    assert cancelled.status_code == 409
    check(BY_NAME["cancel_task"], cancelled)

"""The calls of the replaced service, whose answers must stay what they were."""

import re
import time
from typing import Any

import httpx
import pytest

from captiond import __version__
from tests.conftest import png
from tests.service import Service, wait_for

GOOD, BAD = ("a.png", png(1)), ("b.jpg", b"this is no image")
LARGE = ("large.png", png(1) + bytes(20_000))  # more than a field without a file may have


def test_health(service: Service) -> None:
    response = service.client.get("/health")
    body = response.json()
    assert response.status_code == 200
    assert body["status"] == "healthy"
    assert body["version"] == __version__
    assert re.fullmatch(r"\d+\.\d ms", body["response_time"])
    assert abs(body["timestamp"] - time.time()) < 60
    assert body["model"] == "captiond/scenes"
    assert body["fallback"] is False


def test_the_page(service: Service) -> None:
    response = service.client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_caption(service: Service) -> None:
    response = service.client.post("/caption", files={"image": GOOD})
    body = response.json()
    assert response.status_code == 200
    assert list(body)[:4] == ["filename", "caption", "tags", "processing_time"]
    assert body["filename"] == "a.png"
    assert isinstance(body["caption"], str)
    assert body["caption"]
    assert body["tags"] == sorted(set(body["tags"]))
    assert body["processing_time"] > 0
    assert (body["width"], body["height"]) == (96, 96)
    assert body["model"] == "captiond/scenes"


def test_a_request_may_have_a_thousand_files(service: Service) -> None:
    """The web framework of the replaced service allows as many."""
    files = [("images", (f"{number}.png", GOOD[1])) for number in range(1000)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    assert service.finished(response.json()["task_id"])["progress"]["done"] == 1000


def test_batch_caption_keeps_the_order_and_a_bad_file_spoils_no_other(service: Service) -> None:
    files = [("images", GOOD), ("images", BAD), ("images", ("c.png", png(2)))]
    response = service.client.post("/batch-caption", files=files)
    body = response.json()
    assert response.status_code == 200
    assert [result["image_path"] for result in body["results"]] == ["a.png", "b.jpg", "c.png"]
    assert [list(result)[:4] for result in body["results"]] == [
        ["image_path", "caption", "tags", "error"]
    ] * 3
    good, bad, other = body["results"]
    assert good["caption"]
    assert good["error"] is None
    assert other["caption"]
    assert (bad["caption"], bad["tags"], bad["code"]) == (None, None, "not_an_image")
    assert bad["error"] == "not an image of a known type"
    assert body["total_processing_time"] > 0


def test_an_async_task_from_acceptance_to_its_end(service: Service) -> None:
    files = [("images", GOOD), ("images", BAD), ("images", ("c.png", png(3)))]
    response = service.client.post("/async-batch-caption", files=files)
    accepted = response.json()
    assert response.status_code == 202
    assert re.fullmatch(r"task_\d+_[0-9a-f]{32}", accepted["task_id"])
    assert accepted["message"] == (
        "Batch captioning task accepted. 3 files queued. Check status for details."
    )
    assert response.headers["location"].endswith(accepted["task_id"])
    assert int(response.headers["retry-after"]) > 0
    task = service.finished(accepted["task_id"])
    assert list(task)[:5] == ["task_id", "status", "message", "result", "error_details"]
    assert task["status"] == "COMPLETED"
    assert task["message"] == (
        "Processing complete. 2/3 images captioned successfully in background. Total results: 3."
    )
    assert task["error_details"] is None
    assert [result["image_path"] for result in task["result"]] == ["a.png", "b.jpg", "c.png"]
    assert [result["error"] is None for result in task["result"]] == [True, False, True]
    assert task["progress"] == {"total": 3, "done": 3, "failed": 1}


def test_a_task_without_one_good_file_has_failed(service: Service) -> None:
    files = [("images", BAD), ("images", ("d.png", b""))]
    task_id = service.client.post("/async-batch-caption", files=files).json()["task_id"]
    task = service.finished(task_id)
    assert task["status"] == "FAILED"
    assert task["message"] == (
        "Processing failed for all 2 images in background. Total results: 2."
    )
    assert [result["code"] for result in task["result"]] == ["not_an_image", "empty_image"]


def test_the_same_image_gets_the_same_caption_every_way(service: Service) -> None:
    def caption() -> dict[str, Any]:
        body: dict[str, Any] = service.client.post("/caption", files={"image": GOOD}).json()
        return body

    one = caption()
    wait_for(lambda: caption()["cached"], "the caption in the cache")
    batch = service.client.post("/batch-caption", files=[("images", GOOD)]).json()["results"][0]
    task_id = service.client.post("/async-batch-caption", files=[("images", GOOD)]).json()[
        "task_id"
    ]
    task = service.finished(task_id)["result"][0]
    assert one["caption"] == batch["caption"] == task["caption"]
    assert one["tags"] == batch["tags"] == task["tags"]
    assert batch["cached"]
    assert task["cached"]


@pytest.mark.parametrize(
    ("path", "field"),
    [("/caption", "image"), ("/batch-caption", "images"), ("/async-batch-caption", "images")],
)
@pytest.mark.parametrize(
    "request_",
    [
        {"files": {"wrong": GOOD}},
        {"files": {"wrong": LARGE}},
        {"data": {"a": "b"}},
        {"json": {}},
        {"files": {}},
    ],
)
def test_a_missing_field_is_reported_as_fastapi_reports_it(
    service: Service, path: str, field: str, request_: dict[str, Any]
) -> None:
    response = service.client.post(path, **request_)
    assert response.status_code == 422
    assert response.json()["detail"] == [
        {"type": "missing", "loc": ["body", field], "msg": "Field required", "input": None}
    ]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_image"),
        (b"no image at all", "not_an_image"),
        (png(1)[:60], "corrupt_image"),
        (png(1, side=400)[:-80], "corrupt_image"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1", "image_type_refused"),
    ],
)
def test_an_invalid_image_is_400_with_a_stable_code(
    service: Service, content: bytes, code: str
) -> None:
    response = service.client.post("/caption", files={"image": ("x.png", content)})
    assert response.status_code == 400
    assert response.json()["code"] == code
    assert response.json()["detail"]


def test_an_unknown_task_is_404(service: Service) -> None:
    response = service.client.get("/async-batch-caption/status/task_1_abc")
    assert response.status_code == 404
    assert response.json()["detail"] == "Task not found."
    assert response.json()["code"] == "task_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("GET", "/caption", 405, "method_not_allowed")],
)
def test_every_error_has_the_same_shape(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    response = service.client.request(method, path, headers={"X-Request-ID": "mine-1"})
    assert response.status_code == status
    assert set(response.json()) == {"detail", "code", "request_id"}
    assert response.json()["code"] == code
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine-1"


def test_a_request_id_that_is_not_sane_is_replaced(service: Service) -> None:
    response = service.client.get("/livez", headers={"X-Request-ID": "a b\t<script>"})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_liveness_readiness_and_version(service: Service) -> None:
    assert service.client.get("/livez").json() == {"status": "alive"}
    assert service.client.get("/readyz").json() == {"status": "ready"}
    assert service.client.get("/version").json() == {"service": "captiond", "version": __version__}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "Ünïcödé 🐈.png", "a" * 300 + ".png", 'quo"te.png', "x\ty.png"]
)
def test_a_file_name_is_echoed_and_used_for_nothing(service: Service, name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="image"; filename="'
        + quoted.encode()
        + b'"\r\n\r\n'
        + png(1)
        + b"\r\n--edge--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    response = service.client.post("/caption", content=body, headers=headers)
    assert response.status_code == 200
    assert response.json()["filename"] == name[:255]


# ---------------------------------------------------------------- cancel, idempotency


def test_a_task_is_cancelled_once_and_for_all(service: Service) -> None:
    with service.suspended_model():  # or the last task might be finished before it is cancelled
        # More images than the model process may claim, which no other test has sent.
        files = [("images", (f"{n}.png", png(n, 94))) for n in range(30)]
        accepted = [
            service.client.post("/async-batch-caption", files=files).json()["task_id"]
            for _ in range(3)
        ]
        last = accepted[-1]
        for _ in range(2):
            cancelled = service.client.delete(f"/async-batch-caption/{last}")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
            assert cancelled.json()["message"].startswith("Task was cancelled. ")
    service.finished(accepted[0])
    service.finished(accepted[1])
    assert service.task(last) == cancelled.json(), "nothing of it came later"
    done = service.client.delete(f"/async-batch-caption/{accepted[0]}")
    assert (done.status_code, done.json()["code"]) == (409, "task_finished")
    unknown = service.client.delete("/async-batch-caption/task_1_00")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "Task not found.")
    wait_for(lambda: not list((service.data / "spool").iterdir()), "an empty spool")


def test_the_same_request_with_the_same_key_is_the_same_task(service: Service) -> None:
    def send(number: int, key: str) -> httpx.Response:
        files = {"images": ("a.png", png(number))}
        return service.client.post(
            "/async-batch-caption", files=files, headers={"Idempotency-Key": key}
        )

    first, again, other = send(1, "k1"), send(1, "k1"), send(1, "k2")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert other.json()["task_id"] != first.json()["task_id"]
    reused = send(2, "k1")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    for wrong in ("", "with space", "x" * 256):
        refused = send(1, wrong)
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_idempotency_key")

"""The Python client against a real service."""

import asyncio
import json
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from captiond.client import (
    AnswerNotUnderstood,
    AsyncCaptiond,
    Captiond,
    ImageCaption,
    Picture,
    RequestRefused,
    RetryPolicy,
    ServiceUnreachable,
    WaitTimeout,
)
from tests.commands import command
from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import (
    DATA,
    MODEL,
    ONE_THREAD,
    Service,
    captiond,
    running,
    running_without_model,
    wait_for,
)

IMPATIENT = RetryPolicy(seconds=0)


@pytest.fixture
def client(service: Service) -> Iterator[Captiond]:
    with Captiond(service.url) as captiond:
        yield captiond


def test_caption_one_image(client: Captiond) -> None:
    result = client.caption(DATA / "black_cat.jpg", num_beams=2)
    assert result.name == "black_cat.jpg"
    assert result.caption == "a black cat"
    assert "cat" in result.tags
    assert result.model == "captiond/scenes"
    assert {tag.tag for tag in result.tag_details} == set(result.tags)
    assert result.width


def test_several_captions_of_one_image(client: Captiond) -> None:
    result = client.caption((DATA / "black_cat.jpg").read_bytes(), num_captions=3, num_beams=3)
    assert len(result.captions) == 3
    assert result.captions[0].caption == result.caption


def test_several_images_of_which_one_is_bad(client: Captiond) -> None:
    good, bad = DATA / "red_circle.png", ("bad.png", b"no image")
    results = client.caption_many([good, bad])
    assert [result.name for result in results] == ["red_circle.png", "bad.png"]
    assert [result.succeeded for result in results] == [True, False]
    assert results[1].code == "not_an_image"


def test_an_image_that_is_refused(client: Captiond) -> None:
    with pytest.raises(RequestRefused) as caught:
        client.caption(b"no image")
    assert (caught.value.status, caught.value.code) == (400, "not_an_image")
    assert caught.value.request_id


def test_an_option_out_of_range_is_named(client: Captiond) -> None:
    with pytest.raises(RequestRefused, match="num_beams"):
        client.caption(png(1), num_beams=99)


def test_a_request_may_have_more_files_than_a_process_may_open(
    client: Captiond, tmp_path: Path
) -> None:
    (tmp_path / "same.png").write_bytes(png(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        results = client.caption_many([tmp_path / "same.png"] * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(results) == 200
    assert all(result.succeeded for result in results)


def test_a_task(client: Captiond) -> None:
    pictures: list[Picture] = [
        DATA / "red_circle.png",
        ("bad.png", b"no image"),
        DATA / "black_cat.jpg",
    ]
    task = client.submit(pictures)
    results = {result.name: result for result in task.results()}
    assert results.keys() == {"red_circle.png", "bad.png", "black_cat.jpg"}
    assert results["black_cat.jpg"].caption == "a black cat"
    assert results["bad.png"].code == "not_an_image"
    report = client.task(task.id).wait()
    assert (report.status, report.progress.done, report.progress.failed) == ("COMPLETED", 3, 1)
    again = sorted(result.name for result in client.task(task.id).results())
    assert again == sorted(results)


def test_the_same_key_is_the_same_task(client: Captiond) -> None:
    first = client.submit([png(1)], idempotency_key="client-test")
    assert client.submit([png(1)], idempotency_key="client-test").id == first.id
    with pytest.raises(RequestRefused) as caught:
        client.submit([png(2)], idempotency_key="client-test")
    assert caught.value.status == 422


def test_an_unknown_task(client: Captiond) -> None:
    for call in (client.task("task_1_none").report, client.task("task_1_none").cancel):
        with pytest.raises(RequestRefused) as caught:
            call()
        assert caught.value.code == "task_not_found"
    with pytest.raises(RequestRefused):
        next(client.task("task_1_none").results())


def test_a_task_that_is_cancelled(service: Service, client: Captiond) -> None:
    with service.suspended_model():
        task = client.submit([png(1, 92), png(2, 92)])
        with pytest.raises(WaitTimeout):
            task.wait(0.1)
        assert task.cancel().status == "CANCELLED"
        assert task.wait().finished


def test_results_go_on_when_the_service_is_restarted(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names, arrived = [f"{number}.png" for number in range(40)], list[str]()
    with running(tmp_path / "data", "--port", port) as service, Captiond(service.url) as client:
        task = client.submit([(name, png(at)) for at, name in enumerate(names)])

        def collect() -> None:
            arrived.extend(result.name for result in client.task(task.id).results())

        reader = threading.Thread(target=collect)
        reader.start()
        wait_for(lambda: arrived, "the first result")
        service.stop()
        with running(tmp_path / "data", "--port", port):
            wait_for(lambda: not reader.is_alive(), "the end of the results")
    assert sorted(arrived) == sorted(names)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with (
        Captiond(url, retry=IMPATIENT) as client,
        pytest.raises(ServiceUnreachable, match=url),
    ):
        client.caption(png(1))


def test_another_service_listens() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    with (
        answering([page]) as url,
        Captiond(url) as client,
        pytest.raises(AnswerNotUnderstood, match="URL"),
    ):
        client.info()


def test_a_service_that_is_busy_for_a_moment(service: Service) -> None:
    busy = b"HTTP/1.1 503 x\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    fine = b'{"filename": "a", "caption": "a cat", "tags": []}'
    fine = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(fine), fine)
    with answering([busy, b"", busy, fine]) as url, Captiond(url) as client:
        assert client.caption(png(1)).caption == "a cat"


@contextmanager
def answering(answers: list[bytes]) -> Iterator[str]:
    """A server that answers each connection with the next of these bytes, and gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as thread:
        server.settimeout(PATIENCE)

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    read_request(connection)
                    connection.sendall(answer)

        serving = thread.submit(serve)
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        except BaseException:
            server.shutdown(socket.SHUT_RDWR)  # nobody will connect any more
            raise
        serving.result()


def read_request(connection: socket.socket) -> None:
    """Read one request to its end. An answer before it would be lost with the connection."""
    connection.settimeout(PATIENCE)
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection, 65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    missing = sum(lengths) - len(body)
    while missing > 0:
        missing -= len(received(connection, missing))


def received(connection: socket.socket, size: int) -> bytes:
    part = connection.recv(size)
    assert part, "the client has gone"
    return part


def test_the_asynchronous_client_does_the_same(service: Service) -> None:
    async def use() -> None:
        async with AsyncCaptiond(service.url) as client:
            one, many, task = await asyncio.gather(
                client.caption(DATA / "black_cat.jpg"),
                client.caption_many([png(1), ("bad.png", b"no image")]),
                client.submit([DATA / "red_circle.png", DATA / "black_cat.jpg"]),
            )
            assert one.caption == "a black cat"
            assert [result.succeeded for result in many] == [True, False]
            names = await collected(task.results())
            assert sorted(names) == ["black_cat.jpg", "red_circle.png"]
            assert (await task.wait()).status == "COMPLETED"
            with pytest.raises(RequestRefused) as caught:
                await task.cancel()
            assert caught.value.code == "task_finished"
            assert (await client.info())["model"]

    async def collected(results: AsyncIterator[ImageCaption]) -> list[str]:
        return [result.name async for result in results]

    asyncio.run(use())


def test_a_key_is_sent(tmp_path: Path) -> None:
    created = command("keys", "create", "tester", "--data-dir", "data", cwd=tmp_path)
    with running_without_model(tmp_path / "data") as service:
        with Captiond(service.url, key=created.stdout.strip()) as client:
            assert client.submit([png(1)]).report().status == "PENDING"
        with Captiond(service.url, key="wrong") as client:
            with pytest.raises(RequestRefused) as caught:
                client.submit([png(1)])
            assert caught.value.status == 401


def test_the_command_line_can_use_a_service(service: Service, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    shutil.copytree(DATA, tmp_path / "in", ignore=shutil.ignore_patterns("*.json"))
    paths = ("in", str(bad), "gone.png")
    run = ("caption", "--url", service.url, "--sidecar", "xmp", *paths)
    by_service = captiond(*run, cwd=tmp_path)
    here = command("caption", "--model", MODEL, *paths, cwd=tmp_path, **ONE_THREAD)
    assert (by_service.returncode, by_service.stderr) == (1, "")
    assert results_without_scores(by_service.stdout) == results_without_scores(here.stdout)
    assert b"a black cat" in (tmp_path / "in" / "black_cat.jpg.xmp").read_bytes()


def results_without_scores(lines: str) -> list[dict[str, object]]:
    """Return results without what depends on the size of a batch in its last digits."""
    results = [json.loads(line) for line in lines.splitlines()]
    for result in results:
        result.pop("files", None)
        for fields in (result, *result.get("tag_details", ())):
            fields.pop("score", None)
            fields.pop("confidence", None)
            fields.pop("tag_en", None)  # no tag is translated, and only the service says so
    return results


def test_the_command_line_says_what_is_wrong_with_a_service(
    service: Service, tmp_path: Path
) -> None:
    picture, key = str(DATA / "red_circle.png"), tmp_path / "key"
    wrong = command("caption", "--url", f"{service.url}/nothing", picture, cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("captiond: ")
    assert len(wrong.stderr.splitlines()) == 1
    both = command("caption", "--url", service.url, "--model", "x", picture, cwd=tmp_path)
    assert both.returncode == 2
    assert "--model cannot be combined with --url" in both.stderr
    none = command("caption", "--url", service.url, "--key-file", str(key), picture, cwd=tmp_path)
    assert none.returncode == 2
    assert str(key) in none.stderr


def test_the_examples_of_the_documentation_work(service: Service, tmp_path: Path) -> None:
    for name in ("cat.jpg", "dog.jpg"):
        shutil.copy(DATA / "black_cat.jpg", tmp_path / name)
    page = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        code = example.replace("http://127.0.0.1:8000", service.url)
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert "a black cat" in run.stdout

"""`captiond ray` as a command: it is stopped, goes on, and joins a cluster. Takes two minutes."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer
from pyarrow.parquet import read_table

from captiond.references.addresses import bucket_store
from tests.conftest import png
from tests.service import MODEL, wait_for

IMAGES, FEW, ROWS = 300, 40, 50
SECONDS = 900  # on a very busy machine


@pytest.fixture
def photos(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(getattr(request, "param", IMAGES)):
        (folder / f"{number:04}.png").write_bytes(b"x" if number == 7 else png(number))
    return folder


@contextmanager
def job(source: str, output: str, data: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "captiond", "ray", source, output, "--model", MODEL]
    command += ["--data-dir", str(data), "--set", "model.batch_size=4", "--rows", str(ROWS), *flags]
    with subprocess.Popen(
        command, cwd=data.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(source: str, output: str, data: Path, *flags: str) -> None:
    with job(source, output, data, *flags) as process:
        shown, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, shown


def parts(output: Path) -> list[Path]:
    return [path for path in output.glob("*.*") if path.suffix in {".parquet", ".jsonl"}]


def check(rows: Sequence[dict[str, str | None]], photos: Path) -> None:
    paths = [str(path) for path in photos.iterdir()]
    assert Counter(row["uri"] for row in rows) == Counter(paths)
    codes = Counter(row["code"] for row in rows)
    assert codes == {None: len(paths) - 1, "not_an_image": 1}


def test_a_stopped_job_goes_on(photos: Path, tmp_path: Path) -> None:
    output, data = tmp_path / "captions", tmp_path / "data"
    with job(str(photos), str(output), data) as process:
        wait_for(lambda: parts(output), "the first results", seconds=SECONDS)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGINT, shown
    assert "captiond: stopped; the same command goes on" in shown
    wait_for(lambda: not any(each.is_running() for each in children), "the end of Ray")
    finish(str(photos), str(output), data)
    check(read_table(output).to_pylist(), photos)
    before = {path: path.stat().st_mtime_ns for path in parts(output)}
    finish(str(photos), str(output), data)  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in parts(output)} == before


@pytest.mark.parametrize("photos", [FEW], indirect=True)
def test_a_job_on_a_cluster_writes_lines_of_json(photos: Path, tmp_path: Path) -> None:
    output, port = tmp_path / "captions", "6390"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # The program `ray` names the Python that it was installed for, which may have moved.
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        cluster = subprocess.Popen(
            [*start, "--port", port, "--num-cpus", "2", "--include-dashboard", "false"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert cluster.stdout is not None
            assert any("Ray runtime started" in line for line in cluster.stdout)
            address = ("--address", f"127.0.0.1:{port}")
            finish(str(photos), str(output), tmp_path / "data", "--format", "jsonl", *address)
        finally:
            cluster.terminate()
            cluster.wait(SECONDS)
    lines = [line for path in parts(output) for line in path.read_text().splitlines()]
    check([json.loads(line) for line in lines], photos)


def test_a_job_reads_and_writes_object_storage(tmp_path: Path) -> None:
    """The listing, the images, the results and the checkpoint are in a bucket."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket_store.cache_clear()
        boto3.client("s3").create_bucket(Bucket="photos")
        store = bucket_store("s3://photos")
        for number in range(FEW):
            store.put(f"in/{number}.png", png(number))
        for _ in range(2):  # the second job has nothing to do
            finish("s3://photos/in", "s3://photos/out", tmp_path / "data")
        listed = [each["path"] for page in store.list("out") for each in page]
        # Arrow writes an object for each folder as well.
        parquet = [name for name in listed if name.endswith(".parquet")]
        results = [name for name in parquet if "_checkpoint" not in name]
        files = [bytes(store.get(name).bytes()) for name in results]
        bucket_store.cache_clear()
    server.stop()
    rows = [row for file in files for row in read_table(BytesIO(file)).to_pylist()]
    assert sorted(row["uri"] for row in rows) == sorted(
        f"s3://photos/in/{number}.png" for number in range(FEW)
    )
    assert all(row["caption"] for row in rows)

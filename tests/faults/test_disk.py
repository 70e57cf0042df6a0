"""A disk that is full, that fails, or that has damaged what was on it."""

import asyncio
import random
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from captiond.cli.database import created
from captiond.settings.config import DataSettings, Settings
from tests.conftest import png
from tests.faults.harness import new_seed, record, rounds
from tests.faults.mounts import mount_in, own_mounts, read_only, writable_again
from tests.service import (
    FRESH,
    NO_FILE_LIMIT_FOR_LOGS,
    Service,
    captiond,
    check_nothing_lost,
    query,
    running,
    running_without_model,
    wait_for,
)

MIB = 1024 * 1024
BATCH_SECONDS = 3
TEMPORARY = ("/dev/shm", "/var/tmp", "/usr/tmp")
CLAIMED = "SELECT count(*) FROM images WHERE status = 'PROCESSING'"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


@contextmanager
def limited_files(process: psutil.Process, size: int) -> Iterator[None]:
    """While the block runs, let all writes of the process fail that make a file larger than `size`.

    `size` is in bytes. Only the soft limit is set, so that it can be lifted again.
    """
    process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@dataclass
class Healing:
    """A running service whose disk fails for a while, and the number of images of each task."""

    service: Service
    accepted: dict[str, int] = field(default_factory=dict)

    def accept(self, images: list[bytes]) -> str:
        """Send a task that is accepted, and return its id."""
        response = post(self.service, images)
        assert response.status_code == 202, response.text
        task_id: str = response.json()["task_id"]
        self.accepted[task_id] = len(images)
        return task_id

    def tasks(self) -> int:
        """Return how many tasks the database has."""
        ((number,),) = query(self.service.data, "SELECT count(*) FROM tasks")
        return int(number)


@pytest.fixture(scope="module")
def healing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healing]:
    """A service for all tests after which it works as before. At its end, nothing is lost."""
    data = tmp_path_factory.mktemp("healing") / "data"
    flags = ("--set", f"model.batch_seconds={BATCH_SECONDS}")
    with running(data, *flags, prefix=NO_FILE_LIMIT_FOR_LOGS, **FRESH) as service:
        healing = Healing(service)
        yield healing
        assert service.logged("model_hung") == service.logged("model_died") == []
        assert service.stop() == 0
    check_nothing_lost(data, healing.accepted)


def post(service: Service, images: list[bytes]) -> httpx.Response:
    files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
    return service.client.post("/async-batch-caption", files=files)


def code_of(response: httpx.Response) -> str | None:
    """Return the code of an error, None if the response has none."""
    code: str | None = response.json().get("code")
    return code


def spooled(service: Service) -> list[Path]:
    return list((service.data / "spool").iterdir())


def test_a_full_disk_refuses_uploads_and_heals(healing: Healing) -> None:
    service = healing.service
    first = healing.accept([png(1)])
    service.finished(first)
    large, before = png(2) + b"\0" * (2 * MIB), healing.tasks()
    with limited_files(service.child("web"), MIB):
        for _ in range(3):
            refused = post(service, [large])
            assert (refused.status_code, refused.json()["code"]) == (507, "no_space")
            alone = service.client.post("/caption", files={"image": ("a.png", large)})
            assert alone.status_code == 507
        assert spooled(service) == []
        assert healing.tasks() == before
        assert service.task(first)["status"] == "COMPLETED", "reading works"
    assert service.finished(healing.accept([large]))["status"] == "COMPLETED"


def test_a_database_that_cannot_grow_accepts_nothing_and_heals(healing: Healing) -> None:
    before = healing.tasks()
    with limited_files(healing.service.child("web"), 0):
        refused = post(healing.service, [b""])  # an empty image: only rows are written
        assert (refused.status_code, refused.json()["code"]) == (500, "storage_failed")
        assert healing.tasks() == before
    healing.accept([b""])


def batched(service: Service, lane: str) -> int:
    """Return how many images of a lane have been captioned so far."""
    batches = service.logged("batch")
    return sum(batch["images"] for batch in batches if batch["lane"] == lane)


def test_results_wait_until_the_disk_has_space(healing: Healing) -> None:
    service, model = healing.service, healing.service.child("model")
    before, waiting = batched(service, "bulk"), len(service.logged("store_waits"))
    with limited_files(model, 0):
        accepted = healing.accept([png(number) for number in range(20)])
        wait_for(lambda: batched(service, "bulk") == before + 20, "all images to be captioned")
        service.wait_for_entries("store_waits", waiting + 1)
        time.sleep(BATCH_SECONDS + 2)  # nothing happens, though the results wait so long
        alone = service.client.post("/caption", files={"image": ("a.png", png(99))})
        assert alone.status_code == 200, "an interactive client does not wait for the disk"
        assert service.task(accepted)["progress"]["done"] == 0
    assert service.finished(accepted)["status"] == "COMPLETED"


def test_a_supervisor_that_cannot_write_claims_later(healing: Healing) -> None:
    service = healing.service
    failures = len(service.logged("storage_failing"))
    with limited_files(psutil.Process(service.process.pid), 0):
        accepted = healing.accept([png(1)])
        service.wait_for_entries("storage_failing", failures + 1)
        assert query(service.data, CLAIMED) == [(0,)]
    assert service.finished(accepted)["status"] == "COMPLETED"


def test_a_stop_does_not_wait_for_space_on_the_disk(data: Path) -> None:
    flags = ("--set", "server.shutdown_seconds=2")
    with running(data, *flags, prefix=NO_FILE_LIMIT_FOR_LOGS, **FRESH) as service:
        with limited_files(service.child("model"), 0):
            accepted = post(service, [png(number) for number in range(20)]).json()["task_id"]
            wait_for(lambda: batched(service, "bulk") == 20, "all images to be captioned")
            service.wait_for_entries("store_waits", 1)
            with limited_files(psutil.Process(service.process.pid), 0):
                assert service.stop() == 0
        assert service.logged("drain_overdue")
    # The next start has all that it needs to caption them again.
    waiting = "SELECT count(*) FROM images WHERE status IN ('PENDING', 'PROCESSING')"
    assert query(data, waiting) == [(20,)]
    (file,) = spooled(service)
    assert query(data, "SELECT id, spool FROM tasks") == [(accepted, file.name)]


@contextmanager
def on_broken_disk(data: Path, call: str) -> Iterator[Service]:
    """A service in which the system call `call` fails, on a data folder that is there already."""
    asyncio.run(created(Settings(data=DataSettings(dir=data))))
    prefix = (sys.executable, str(ROOT / "tests" / "faults" / "seccomp.py"), call)
    with Service(data, prefix=prefix) as service:
        yield service
        assert service.stop() == 0
    assert query(data, "SELECT count(*) FROM tasks") == [(0,)]


def check_refused(service: Service) -> None:
    refused = post(service, [png(1)])
    assert (refused.status_code, refused.json()["code"]) == (500, "storage_failed")
    assert refused.json()["detail"].startswith("the upload cannot be written"), refused.text
    assert spooled(service) == []


def test_an_upload_that_cannot_be_synced_is_not_accepted(data: Path) -> None:
    with on_broken_disk(data, "fdatasync") as service:
        check_refused(service)
        alone = service.wait_ready().client.post("/caption", files={"image": ("a.png", png(1))})
        assert alone.status_code == 200, "an interactive image promises nothing"


def test_a_name_that_cannot_be_synced_is_not_accepted(data: Path) -> None:
    with on_broken_disk(data, "fsync") as service:
        check_refused(service.hold_model())


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healing]:
    """A service that can write only to its data folder. At its end, nothing is lost."""
    data = tmp_path_factory.mktemp("confined") / "data"
    data.mkdir()
    writable = f"mount --bind {data} {data};"
    others = [f"[ ! -d {folder} ] || {{ {read_only(folder)} }};" for folder in TEMPORARY]
    prefix = own_mounts(f"{writable} mount -o remount,bind,ro /; {' '.join(others)}")
    with running(data, prefix=prefix, HOME="/nonexistent", TMPDIR="") as service:
        confined = Healing(service)
        yield confined
        assert service.stop() == 0
        assert "Traceback" not in service.log_text
    check_nothing_lost(data, confined.accepted)


def test_a_read_only_root_without_a_temporary_folder_is_enough(confined: Healing) -> None:
    service = confined.service
    assert service.client.post("/caption", files={"image": ("a.png", png(1))}).is_success
    assert service.finished(confined.accept([png(2)]))["status"] == "COMPLETED"
    (entry,) = service.logged("temporary_folder")
    assert entry["path"] == str(service.data / "tmp")


def test_a_data_folder_that_becomes_read_only_refuses_and_heals(confined: Healing) -> None:
    service, image = confined.service, {"image": ("a.png", png(11))}
    first = confined.accept([png(11)])
    service.finished(first)
    lines = len(service.log_text.splitlines())
    mount_in(service.process.pid, read_only(service.data))
    for refused in (service.client.post("/caption", files=image), post(service, [png(12)])):
        assert (refused.status_code, refused.json()["code"]) == (500, "storage_failed")
        assert "Read-only file system" in refused.json()["detail"]
    assert service.task(first)["status"] == "COMPLETED", "reading works"
    new = service.log_text.splitlines()[lines:]
    reasons = [line for line in new if "Read-only file system" in line]
    assert len(reasons) == 2, "one line for each request"
    assert len(new) <= 3 + 2, new  # requests, and what belongs to other threads
    wait_for(lambda: code_of(service.client.get("/readyz")) == "cannot_store", "a probe to see it")
    mount_in(service.process.pid, writable_again(service.data))
    assert service.finished(confined.accept([png(13)]))["status"] == "COMPLETED"
    assert service.client.post("/caption", files=image).status_code == 200
    wait_for(lambda: service.client.get("/readyz").is_success, "the probe to see that it healed")


def test_a_read_only_data_folder_is_named_at_the_start(data: Path) -> None:
    data.mkdir()
    prefix = own_mounts(read_only(data))
    result = captiond(
        "serve", "--port", "0", "--data-dir", str(data), cwd=data.parent, prefix=prefix
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"captiond: {data}: its file system is read-only; mount it writable, or choose another "
        "folder with --data-dir"
    ]


def test_a_damaged_database_is_refused_and_never_made_anew(data: Path, rng: random.Random) -> None:
    with running_without_model(data) as service:
        for number in range(40):
            post(service, [png(number)])
        service.kill()
    with sqlite3.connect(data / "captiond.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (data / "captiond.db").read_bytes()
    times, refused = rounds(3, 100), 0
    for number in range(times):
        folder = data.with_name(f"damaged{number}")
        shutil.copytree(data, folder)
        damaged = damage(whole, rng)
        (folder / "captiond.db").write_bytes(damaged)
        result = captiond("serve", "--port", "0", "--data-dir", str(folder), cwd=data.parent)
        assert result.returncode == 1, result.stderr
        message = result.stderr.splitlines()[-1]
        assert message.startswith(f"captiond: {folder / 'captiond.db'}: cannot be used: ")
        assert "Restore a backup" in message
        assert "Traceback" not in result.stderr
        assert (folder / "captiond.db").read_bytes() == damaged, "it was changed"
        refused += 1
    record("corrupt database", rounds=times, refused=refused, recreated=0)


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return the database with the first 64 bytes of one page flipped, where its structure is.

    SQLite has no checksums, so nothing can notice a flip inside a stored text.
    """
    page_size = int.from_bytes(content[16:18], "big")
    used = [
        start
        for start in range(page_size, len(content), page_size)
        if content[start] in {2, 5, 10, 13}  # a B-tree page (sqlite.org/fileformat.html)
        and int.from_bytes(content[start + 3 : start + 5], "big") >= 20  # with that many cells
    ]
    start = rng.choice(used)
    flipped = bytes(byte ^ 0xFF for byte in content[start : start + 64])
    return content[:start] + flipped + content[start + 64 :]

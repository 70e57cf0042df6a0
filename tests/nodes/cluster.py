"""Several nodes as processes on one machine, with a real database server and real object storage.

Each node has a data folder of its own, and a cable to the database that a test can cut.
"""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_spool
from captiond.store import tasks
from captiond.store.engine import make_engine
from captiond.supervisor.cleaner import SpoolCleaner
from tests.conftest import png
from tests.faults.harness import SOAK
from tests.nodes.cable import Cable, cable_to
from tests.postgres import PORT, ROLE, PostgresServer, postgres_server
from tests.receiver import Receiver
from tests.s3server import S3Server, s3_server
from tests.service import FRESH, Service, http_client, wait_for
from tests.unit.supervised import background
from tests.wire import Wire

LEASE = 4  # seconds; a busy machine may lose it without a fault, which must not matter
SETTINGS = {
    **FRESH,
    "CAPTIOND_NODE__LEASE_SECONDS": str(LEASE),
    "CAPTIOND_DATABASE__CONNECT_SECONDS": "2",
    "CAPTIOND_MODEL__SILENCE_SECONDS": "3600",
    "CAPTIOND_MODEL__BATCH_SIZE": "4",  # so that no node has all images of an import at once
    "CAPTIOND_WEBHOOKS__ALLOW": "127.0.0.1",
    "CAPTIOND_WEBHOOKS__SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "CAPTIOND_WEBHOOKS__FIRST_RETRY_SECONDS": "0.2",
    "CAPTIOND_SERVER__SHUTDOWN_SECONDS": "20",
}
ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"
OPEN_IMAGES = f"SELECT count(*) FROM images WHERE status NOT IN {ENDED}"
MOST_OPEN = 40  # images, so that a run ends
PAUSE = 0.05 if SOAK else 0.2  # seconds between two requests of a client


@dataclass
class Ledger:
    """What clients sent by the ids of tasks, as hashes in order, and how the nodes answered."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)


class Node:
    """One place for a node: its data folder, its cable, and the process that runs there now."""

    def __init__(self, cluster: "Cluster", number: int, socket: Path, cable: Cable) -> None:
        self.data = cluster.folder / f"node{number}"
        self.cable = cable
        role = cluster.roles[number]
        self._command = "worker" if role == "worker" else "serve"
        self._flags = ("--no-model",) if role == "web" else ()
        url = f"postgresql+psycopg://{ROLE}@/{cluster.database}?host={socket}&port={PORT}"
        self._environ = {**SETTINGS, **cluster.storage, "CAPTIOND_DATABASE__URL": url}
        self.service: Service | None = None

    def start(self) -> Service:
        """Start a node, and wait until it can do without the database for a while."""
        self.service = Service(self.data, *self._flags, command=self._command, **self._environ)
        self.service.wait_for_entries("child_started", 1)
        return self.service

    def kill(self) -> None:
        """Kill the supervisor; the kernel kills its children."""
        assert self.service is not None
        tree = self.service.tree()
        self.service.close()
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.wait(60)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop all processes of the node while the block runs."""
        assert self.service is not None
        tree = self.service.tree()
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGCONT)


class Cluster:
    """Nodes with their roles on one database and one bucket."""

    def __init__(
        self, folder: Path, server: PostgresServer, s3: S3Server, roles: tuple[str, ...]
    ) -> None:
        self.folder = folder
        self.server = server
        self.s3 = s3
        self.roles = roles
        self.database = server.create_database()
        self.wire = Wire(s3.endpoint)
        self.storage = s3.environ(endpoint=self.wire.endpoint)
        self.nodes: list[Node] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Cluster":
        for number in range(len(self.roles)):
            socket, cable = self._stack.enter_context(cable_to(self.server.folder, PORT))
            os.chmod(socket, 0o755)  # noqa: PTH101 - a node may run as another user
            self.nodes.append(Node(self, number, socket, cable))
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.cable.repair()
            if node.service is not None:
                node.service.close()
        self._stack.close()

    def start(self) -> None:
        """Start all nodes, and wait until each of them can caption."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            self.wait_ready(node)

    def wait_ready(self, node: Node) -> None:
        service = node.service
        assert service is not None
        wait_for(lambda: service.client.get("/readyz").is_success, "a ready node")

    def query(self, sql: str) -> list[Any]:
        """Return rows of the database, once its server runs."""

        def rows() -> tuple[list[Any]] | None:
            with suppress(psycopg.OperationalError):
                return (self.server.execute(sql, self.database),)
            return None

        return wait_for(rows, "the database server")[0]

    def wait_for_dead(self, node: str) -> None:
        """Wait until the others have taken over from a node."""
        gone = f"SELECT id FROM nodes WHERE id = '{node}'"
        wait_for(lambda: not self.query(gone), f"the end of {node}")

    def name_of(self, node: Node) -> str:
        """Return the id of the node that runs in this place now."""
        home = (node.data / "home").read_text().strip()
        found = wait_for(
            lambda: self.query(
                f"SELECT id FROM nodes WHERE id LIKE '%-{home}-%' ORDER BY expires_at DESC"
            ),
            "a lease",
        )
        return str(found[0][0])

    def wait_for_the_end(self) -> None:
        """Wait until all images are finished; the deadline is for the next one of them."""
        left = self.query(OPEN_IMAGES)[0][0]
        while left:
            before = left

            def fewer(before: int = before) -> bool:
                return bool(self.query(OPEN_IMAGES)[0][0] < before)

            wait_for(fewer, f"any of {before} open images")
            left = self.query(OPEN_IMAGES)[0][0]


@contextmanager
def cluster(folder: Path, *roles: str) -> Iterator[Cluster]:
    """Servers of their own, and places for nodes. No node runs yet."""
    with (
        postgres_server() as server,
        s3_server() as s3,
        Cluster(folder, server, s3, roles) as made,
    ):
        yield made


class Load:
    """Clients of all nodes with an API that send tasks and interactive images until stopped."""

    def __init__(self, cluster: Cluster, rng: random.Random, receiver: Receiver) -> None:
        self.ledger = Ledger()
        self._cluster = cluster
        self._rng = rng
        self._receiver = receiver
        self._numbers = count(rng.randrange(10**6))
        self._stop = threading.Event()
        self._holds_back = True

    @contextmanager
    def not_holding_back(self) -> Iterator[None]:
        """Send tasks while the block runs, however many images wait: nobody can read them now."""
        self._holds_back = False
        try:
            yield
        finally:
            self._holds_back = True

    @contextmanager
    def running(self, *, bulk: int = 1, interactive: int = 1) -> Iterator[None]:
        self._stop = threading.Event()
        clients = [threading.Thread(target=self._bulk) for _ in range(bulk)]
        clients += [threading.Thread(target=self._interactive) for _ in range(interactive)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def _urls(self) -> list[str]:
        with_api = zip(self._cluster.nodes, self._cluster.roles, strict=True)
        return [node.service.url for node, role in with_api if role != "worker" and node.service]

    def _bulk(self) -> None:
        rng = random.Random(self._rng.random())
        with http_client(timeout=30) as client:
            while not self._stop.is_set():
                with suppress(httpx.TransportError, httpx.TimeoutException):
                    self._send_task(client, rng.choice(self._urls()), rng.randint(1, 6))
                self._hold_back()

    def _send_task(self, client: httpx.Client, url: str, images: int) -> None:
        contents = [png(next(self._numbers)) for _ in range(images)]
        files = [("images", (f"{n}.png", content)) for n, content in enumerate(contents)]
        form = {"callback_url": self._receiver.url()}
        response = client.post(f"{url}/async-batch-caption", files=files, data=form)
        self.ledger.answers[f"task {response.status_code}"] += 1
        if response.status_code == 202:
            hashes = [sha256(content).hexdigest() for content in contents]
            self.ledger.accepted[response.json()["task_id"]] = hashes

    def _hold_back(self) -> None:
        while not self._stop.wait(PAUSE):
            if not self._holds_back or self._cluster.query(OPEN_IMAGES)[0][0] < MOST_OPEN:
                return

    def _interactive(self) -> None:
        rng = random.Random(self._rng.random())
        with http_client(timeout=30) as client:
            while not self._stop.wait(PAUSE):
                image = ("one.png", png(next(self._numbers)))
                url = rng.choice(self._urls())
                try:
                    status = client.post(f"{url}/caption", files={"image": image}).status_code
                except (httpx.TransportError, httpx.TimeoutException):
                    self.ledger.answers["caption broken"] += 1
                    continue
                self.ledger.answers[f"caption {status}"] += 1


def judge(cluster: Cluster, ledger: Ledger, receiver: Receiver) -> dict[str, int]:
    """Check that each accepted image has one result in its task, and that nothing is left over.

    A request whose answer was lost may have been accepted; the same rules hold for its task.
    """
    rows = cluster.query(
        "SELECT task_id, position, sha256, status, result FROM images ORDER BY task_id, position"
    )
    images: dict[str, list[tuple[Any, ...]]] = {}
    for task_id, *image in rows:
        images.setdefault(task_id, []).append(tuple(image))
    lost = [
        task
        for task, hashes in ledger.accepted.items()
        if [image[1] for image in images.get(task, [])] != hashes
    ]
    unfinished = [row for row in rows if row[3] not in {"COMPLETED", "FAILED"} or row[4] is None]
    failed = [row for row in rows if row[3] == "FAILED"]
    counters = cluster.query("SELECT id FROM tasks WHERE open_images <> 0 OR turn IS NOT NULL")
    owed = cluster.query("SELECT id FROM deliveries WHERE status <> 'DELIVERED'")
    delivered = cluster.query("SELECT id, task_id FROM deliveries")
    twice = [key for key, n in Counter(map(hashes_of, images.values())).items() if n > 1]
    called = Counter(call.headers["webhook-id"] for call in receiver.calls)
    assert (lost, twice, unfinished, counters, owed) == ([], [], [], [], [])
    assert len(delivered) == len({task for _, task in delivered}) == len(images)
    assert set(called) == {name for name, _ in delivered}
    assert failed == [], failed[:3]
    return {
        "tasks": len(images),
        "images": len(rows),
        "lost": len(lost),
        "doubled": len(twice),
        "webhooks": len(delivered),
        "calls": sum(called.values()),
    }


def hashes_of(images: list[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return what a client has sent. No two requests have the same images."""
    return tuple(image[1] for image in images)


def wait_for_webhooks(cluster: Cluster) -> None:
    owed = "SELECT id FROM deliveries WHERE status = 'PENDING'"
    wait_for(lambda: not cluster.query(owed), "the delivery of all webhooks")


async def remove_orphans(cluster: Cluster) -> None:
    """Do what every node does each hour, twice, with a clock that has gone on between the two."""
    uploads, address = cluster.s3.settings(), cluster.server.address(cluster.database)
    folder = cluster.folder / "sweeping"
    folder.mkdir()
    engine, hours = make_engine(address), count()
    spool = open_spool(Settings(data=DataSettings(dir=folder), uploads=uploads))
    needed = partial(tasks.needed_spool_names, engine)
    cleaner = SpoolCleaner(spool, needed, monotonic=lambda: 3600.0 * next(hours))
    async with background(cleaner.run()):
        for _ in range(2):
            await cleaner.remove_orphans(grace=1800)
    await engine.dispose()

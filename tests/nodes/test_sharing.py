"""Two web nodes and a worker: clients may talk to any of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import png
from tests.nodes.cluster import Cluster, cluster
from tests.service import Service, captiond, wait_for

PROBES = {"/livez": 200, "/readyz": 200, "/health": 200, "/version": 200, "/metrics": 200}
ALONE = "no node with a model is connected"
API = ("/", "/docs", "/openapi.json", "/info", "/tasks", "/static/page.js", "/api/tags")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("nodes"), "web", "web", "worker") as made:
        one = made.nodes[0].start()
        wait_for(lambda: ALONE in one.client.get("/readyz").text, "the state of the node")
        refused = one.client.post("/caption", files={"image": ("a.png", png(1))})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["reasons"] == [ALONE]
        made.nodes[1].start()
        made.nodes[2].start()
        for node in made.nodes:
            made.wait_ready(node)
        yield made


def services(nodes: Cluster) -> tuple[Service, Service, Service]:
    one, other, worker = (node.service for node in nodes.nodes)
    assert one is not None
    assert other is not None
    assert worker is not None
    return one, other, worker


def send(service: Service, first: int, images: int) -> str:
    files = [("images", (f"{n}.png", png(n))) for n in range(first, first + images)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


def test_a_client_waits_at_a_node_without_a_model(nodes: Cluster) -> None:
    one, _, worker = services(nodes)
    answer = one.client.post("/caption", files={"image": ("a.png", png(7))}).json()
    assert answer["model"] == "captiond/scenes"
    assert answer["caption"]
    files = [("images", (f"{n}", content)) for n, content in enumerate((png(8), b"none", png(9)))]
    results = one.client.post("/batch-caption", files=files).json()["results"]
    assert [result.get("code") for result in results] == [None, "not_an_image", None]
    assert one.client.get("/health").json()["model"] == "captiond/scenes"
    wait_for(lambda: nodes.query("SELECT id FROM asks") == [], "the removal of asks")
    wait_for(lambda: list((worker.data / "spool").iterdir()) == [], "an empty spool")


def test_a_worker_serves_probes_and_metrics_only(nodes: Cluster) -> None:
    *_, worker = services(nodes)
    assert {path: worker.client.get(path).status_code for path in PROBES} == PROBES
    assert {worker.client.get(path).status_code for path in API} == {404}
    assert worker.client.post("/caption").status_code == 404


def test_a_task_can_be_followed_and_waited_for_at_any_node(nodes: Cluster) -> None:
    one, other, _ = services(nodes)
    task = send(one, 20, 4)
    status = f"/async-batch-caption/status/{task}"
    assert other.client.get(f"{status}?wait=60").json()["status"] == "COMPLETED"
    assert one.client.get(f"{status}?wait=60").json()["status"] == "COMPLETED"
    events = other.client.get(f"/async-batch-caption/events/{task}").text
    assert events.count("event: image") == 4
    assert "event: end" in events
    wait_for(lambda: nodes.s3.names() == set(), "the removal of the upload")


def test_a_task_is_cancelled_at_another_node_than_it_was_sent_to(nodes: Cluster) -> None:
    one, other, worker = services(nodes)
    with worker.suspended_model():
        task = send(one, 40, 30)
        claimed = f"SELECT id FROM images WHERE task_id = '{task}' AND status = 'PROCESSING'"
        wait_for(lambda: nodes.query(claimed), "a claim")
        answer = other.client.delete(f"/async-batch-caption/{task}")
        assert answer.json()["status"] == "CANCELLED"
        assert one.task(task)["status"] == "CANCELLED"
        wait_for(lambda: nodes.s3.names() == set(), "the removal of the upload")
    following = send(other, 80, 2)
    assert one.finished(following)["status"] == "COMPLETED"


def test_all_nodes_count_the_same_queue(nodes: Cluster) -> None:
    _, other, worker = services(nodes)
    with worker.suspended_model():
        task = send(other, 100, 60)
        claimed = f"SELECT count(*) FROM images WHERE task_id = '{task}' AND status = 'PROCESSING'"
        wait_for(lambda: nodes.query(claimed)[0][0], "a claim")
        waiting = f"SELECT count(*) FROM images WHERE task_id = '{task}' AND status = 'PENDING'"

        def same() -> bool:
            left = nodes.query(waiting)[0][0]
            return all(queued(node) == left for node in (other, worker))

        wait_for(same, "metrics that are up to date")
    assert other.finished(task)["status"] == "COMPLETED"


def queued(service: Service) -> int:
    lines = service.client.get("/metrics").text.splitlines()
    (line,) = [each for each in lines if each.startswith('captiond_queue_images{lane="bulk"}')]
    return int(float(line.rpartition(" ")[2]))


def test_a_node_with_uploads_of_its_own_does_not_join(nodes: Cluster, tmp_path: Path) -> None:
    """Its tasks would fail on the others."""
    url = {"CAPTIOND_DATABASE__URL": nodes.server.url(nodes.database)}
    done = captiond("serve", "--port", "0", "--data-dir", "data", cwd=tmp_path, **url)
    assert done.returncode == 1
    assert "several nodes need [uploads] url" in done.stderr

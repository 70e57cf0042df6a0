"""Services on a PostgreSQL server, for tests: their settings, their tasks, and what must hold."""

from tests.conftest import png
from tests.postgres import PostgresServer
from tests.service import FRESH, Service, wait_for

ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"


def on(server: PostgresServer, name: str) -> dict[str, str]:
    """Return the settings of a service on this database."""
    return {**FRESH, "CAPTIOND_DATABASE__URL": server.url(name)}


def send(service: Service, first: int, images: int) -> str:
    """Send a task, again and again if the database is away, and return its id."""
    files = [("images", (f"{n}.png", png(n))) for n in range(first, first + images)]

    def sent() -> str | None:
        response = service.client.post("/async-batch-caption", files=files)
        assert response.status_code in {202, 503}, response.text
        return str(response.json()["task_id"]) if response.status_code == 202 else None

    return wait_for(sent, "a task that is accepted")


def check_each_once(server: PostgresServer, name: str, accepted: dict[str, int]) -> None:
    """Check that the database has exactly these images, each finished, and no counter is wrong."""
    query = "SELECT task_id, count(*) FROM images GROUP BY task_id"
    assert dict(server.execute(query, name)) == accepted  # type: ignore[arg-type]
    for table in ("images", "tasks"):
        open_rows = f"SELECT id, status FROM {table} WHERE status NOT IN {ENDED}"
        assert server.execute(open_rows, name) == []
    assert server.execute("SELECT id FROM images WHERE result IS NULL", name) == []
    counted = "SELECT id FROM tasks WHERE open_images <> 0 OR turn IS NOT NULL"
    assert server.execute(counted, name) == []

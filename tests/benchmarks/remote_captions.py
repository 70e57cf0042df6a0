"""How much longer a caption takes if another node has the model.

    python -m tests.benchmarks.remote_captions

A node with everything and a node without a model are asked in turns, one image after the other. The
only model is that of the first node, so the difference is the way through the database.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import png
from tests.postgres import postgres_server
from tests.s3server import s3_server
from tests.service import FRESH, Service, wait_for

IMAGES, TURNS = 40, 3


def milliseconds(service: Service, first: int) -> list[float]:
    """Return how long each of IMAGES calls of /caption takes."""
    taken = []
    for number in range(first, first + IMAGES):
        image = ("image.png", png(number))
        begun = time.perf_counter()
        response = service.client.post("/caption", files={"image": image})
        taken.append((time.perf_counter() - begun) * 1000)
        assert response.status_code == 200, response.text
    return taken


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    with postgres_server() as server, s3_server() as s3:
        url = {"CAPTIOND_DATABASE__URL": server.url(server.create_database())}
        shared = {**FRESH, **url, **s3.environ()}
        with (
            Service(folder / "all", **shared) as here,
            Service(folder / "web", "--no-model", **shared) as away,
        ):
            for service in (here, away):
                wait_for(lambda s=service: s.client.get("/readyz").is_success, "a model")  # type: ignore[misc]
                milliseconds(service, 10_000)
            for turn in range(TURNS):
                for name, service, first in (("here", here, 0), ("away", away, 5000)):
                    taken = sorted(milliseconds(service, first + turn * IMAGES))
                    median, p90 = statistics.median(taken), taken[int(0.9 * IMAGES)]
                    sys.stdout.write(f"{name}: median {median:.1f} ms, 90 % {p90:.1f} ms\n")


if __name__ == "__main__":
    main()

"""An import that all nodes of a cluster work at, whatever happens to them."""

import json
from pathlib import Path

from tests.conftest import png
from tests.nodes.cluster import Cluster, Node
from tests.service import captiond, wait_for

IMAGES, SHARD = 160, 4
NUMBERS = range(10_000_000, 10_000_000 + IMAGES)  # other images than those of clients


class SharedImport:
    """Images in a folder that all nodes can read, and their results in another one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._photos = cluster.folder / "photos"
        self._photos.mkdir()
        for number in NUMBERS:
            (self._photos / f"{number}.png").write_bytes(png(number))

    @property
    def _output(self) -> Path:
        return self._cluster.folder / "captions"

    def queue(self) -> None:
        """List the images, which the nodes caption from now on."""
        flags = ("--queue", "--shard-images", str(SHARD), "--data-dir", "of-commands")
        done = captiond(
            "import",
            "photos",
            "--output",
            "captions",
            *flags,
            cwd=self._cluster.folder,
            CAPTIOND_DATABASE__URL=self._cluster.server.url(self._cluster.database),
        )
        assert done.returncode == 0, done.stderr
        assert f"{IMAGES} images queued in {IMAGES // SHARD} shards" in done.stdout

    def wait_for_a_claim(self, node: Node) -> None:
        """Wait until a node has a shard, and others are finished."""
        name = self._cluster.name_of(node)
        claimed = f"SELECT id FROM shards WHERE owner LIKE '{name}/%'"
        finished = "SELECT id FROM shards WHERE status = 'COMPLETED'"
        wait_for(
            lambda: self._cluster.query(claimed) and self._cluster.query(finished),
            "a shard of the node",
        )

    def _open_shards(self) -> int:
        return int(self._cluster.query("SELECT open_shards FROM imports")[0][0])

    def check(self) -> None:
        """Wait for the end of the import, and check that each image has one result."""
        while left := self._open_shards():

            def fewer(before: int = left) -> bool:
                return self._open_shards() < before

            wait_for(fewer, f"any of {left} open shards")
        rows = [
            json.loads(line)
            for part in sorted(self._output.glob("part-*.jsonl"))
            for line in part.read_text().splitlines()
        ]
        assert [row["uri"] for row in rows] == [str(self._photos / f"{n}.png") for n in NUMBERS]
        assert [row["error"] for row in rows] == [None] * IMAGES
        counts = "SELECT status, images, captioned, failed FROM imports"
        assert self._cluster.query(counts) == [("COMPLETED", IMAGES, IMAGES, 0)]
        assert self._cluster.query("SELECT id FROM shards WHERE owner IS NOT NULL") == []

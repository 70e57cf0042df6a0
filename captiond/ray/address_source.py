"""The addresses of a source as a dataset of Ray, which is read while its images are captioned."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from captiond.references.addresses import absolute_place
from captiond.references.manifests import COLUMN, addresses
from captiond.references.result_tables import valid_text

ROWS_AT_ONCE = 1000


class AddressSource(Datasource):
    """Lists some sources, see `captiond.references.manifests`. Each is read by one task of Ray.

    A listing is a chain of pages, so no more tasks could share it.
    """

    def __init__(self, sources: Sequence[str], column: str) -> None:
        """Raises SettingsError: a source is a URL that is not read."""
        super().__init__()
        # A worker of a cluster has a working folder of its own.
        self._sources, self._column = [*map(absolute_place, sources)], column

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the number of images is known only at the end of the listing."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Return a task for each source."""
        unknown = BlockMetadata(
            num_rows=None, size_bytes=None, exec_stats=None, task_exec_stats=None
        )
        return [
            ReadTask(partial(tables, source, self._column), unknown) for source in self._sources
        ]


def tables(source: str, column: str) -> Iterator[pa.Table]:
    """Yield the addresses of a source as tables."""
    listed = addresses(source, column)
    while some := list(islice(listed, ROWS_AT_ONCE)):
        yield pa.table({COLUMN: pa.array([*map(valid_text, some)], type=pa.string())})

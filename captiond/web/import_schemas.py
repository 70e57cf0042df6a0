"""The bodies of imports: their types, and the function that builds them."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from captiond.store.results import printable
from captiond.store.shards import ImportState
from captiond.web.schemas import rfc3339


class ImportProgress(TypedDict):
    """Numbers of images: those that are known, finished ones, and those without a caption."""

    total: int
    done: int
    failed: int


class ShardCounts(TypedDict):
    """Numbers of the shards that are listed, and of those that are not finished.

    A cancelled import has no open shards.
    """

    total: int
    open: int


class ImportItem(TypedDict):
    """An import. Times are RFC 3339 in UTC.

    The total of its progress grows until it is `listed`. The service works at it if it is `queued`.
    `problem` says why a process could not work at a shard the last time.
    """

    import_id: str
    status: str
    created_at: str | None
    finished_at: str | None
    progress: ImportProgress
    listed: bool
    shards: ShardCounts
    queued: bool
    problem: str | None
    sources: list[str]
    output: str
    format: str


class ImportList(TypedDict):
    """The newest imports, the newest first."""

    items: list[ImportItem]


def import_item(state: ImportState) -> ImportItem:
    """Return an import in the fields of a task, as far as it has them."""
    return {
        "import_id": state.id,
        "status": state.status.value,
        "created_at": rfc3339(state.created_at),
        "finished_at": rfc3339(state.finished_at),
        "progress": {"total": state.images, "done": state.done, "failed": state.failed},
        "listed": state.listed,
        "shards": {"total": state.shards, "open": state.open_shards},
        "queued": state.queued,
        "problem": state.problem,
        "sources": [printable(source) for source in state.sources],
        "output": state.output,
        "format": state.form,
    }

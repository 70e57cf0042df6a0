"""The tables. Each change here needs a migration; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from captiond.store.columns import LONG, JsonText, only


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class TaskRow(Table):
    """A task. Times are Unix seconds.

    `spool` names the file that holds the task's images, and is NULL once no image needs it.
    `options` is NULL if the request set none. `open_images` counts the images that are PENDING or
    PROCESSING; each transaction that changes the state of images updates it by their number.
    `size` is the size of its images in bytes. `idempotency_key` is a hash of the client and its
    Idempotency-Key; tasks of earlier versions have the key itself.

    `client` and `weight` say who sent the task, and how large that client's share is. `cost` is the
    cost of one image; an image with the default options costs 1. `turn` is the task's place among
    the tasks of its client (see `store.turns`), and NULL if no image of it waits. `revision` rises
    with each change of a result or of the task's state.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_created_at_id", "created_at", "id"),
        # Lists of tasks, the newest first: of one status, of one client, of both.
        Index("ix_tasks_status_created_at_id", "status", "created_at", "id"),
        Index("ix_tasks_client_created_at_id", "client", "created_at", "id"),
        Index("ix_tasks_client_status_created_at_id", "client", "status", "created_at", "id"),
        Index("ix_tasks_finished_at", "finished_at"),
        Index(
            "ix_tasks_finished_at_spool",
            "finished_at",
            "spool",
            **only("spool IS NOT NULL"),  # few tasks still need their file
        ),
        Index(
            "ix_tasks_client_turn_created_at",
            "client",
            "turn",
            "created_at",
            **only("turn IS NOT NULL"),
        ),
        # The index of SQLite answers the sums by itself. On PostgreSQL a change of a column that an
        # index has changes all indexes, and the number of open images changes with each batch.
        Index(
            "ix_tasks_client_open_images_size",
            "client",
            "open_images",
            "size",
            **only("finished_at IS NULL"),
        ).ddl_if(dialect="sqlite"),
        Index("ix_tasks_client", "client", **only("finished_at IS NULL")).ddl_if(
            dialect="postgresql"
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    spool: Mapped[str | None] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    digest: Mapped[str | None] = mapped_column(String(64))
    options: Mapped[dict[str, object] | None] = mapped_column(JsonText())
    callback_url: Mapped[str | None] = mapped_column(Text)
    open_images: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    client: Mapped[str] = mapped_column(Text, server_default=text("''"))
    weight: Mapped[float] = mapped_column(Float, server_default=text("1"))
    cost: Mapped[float] = mapped_column(Float, server_default=text("1"))
    size: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    revision: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    turn: Mapped[float | None] = mapped_column(Float)


class TurnRow(Table):
    """A client that has waiting images, or had some lately: its turn among all clients.

    `turn` is the virtual time at which its next image starts (see `store.turns`). It is kept while
    it is in the future, although the client has no more waiting images (`waits` is false), so that
    a client that returns does not get a larger share.
    """

    __tablename__ = "turns"
    __table_args__ = (
        Index("ix_turns_waits_turn_id", "waits", "turn", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(LONG, primary_key=True, autoincrement=True)
    client: Mapped[str] = mapped_column(Text, unique=True)
    weight: Mapped[float] = mapped_column(Float)
    turn: Mapped[float] = mapped_column(Float)
    waits: Mapped[bool] = mapped_column(Boolean)


class ImageRow(Table):
    """One image of a task. Ids rise in the order of acceptance; a task's images are claimed in it.

    `attempt` counts the claims and fences their results. `owner` is the process that holds the
    claim, as `<node>/<process>`. `blame` holds the points for processes that died while they worked
    on the image (see `jobs.blame`). `revision` is the task's revision that brought the result, or 0
    if the file was refused at upload. Results in the order of (revision, position) are in the order
    in which they were stored, so a client can ask for those that follow the last one that it has.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("task_id", "position"),
        Index("ix_images_owner", "owner", **only("status = 'PROCESSING'")),  # what is claimed
        Index("ix_images_task_id_id", "task_id", "id", **only("status = 'PENDING'")),
        Index(
            "ix_images_task_id_revision_position",
            "task_id",
            "revision",
            "position",
            **only("revision > 0"),  # written once for each image, not at the insert
        ),
        Index(
            "ix_images_task_id_status",
            "task_id",
            "status",
            **only("status IN ('FAILED', 'CANCELLED')"),  # to count them
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(LONG, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    filename: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64))
    offset: Mapped[int] = mapped_column(LONG)
    size: Mapped[int] = mapped_column(LONG)
    status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    blame: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str | None] = mapped_column(String(64))
    revision: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    result: Mapped[dict[str, object] | None] = mapped_column(JsonText())


class CaptionRow(Table):
    """The caption cache. `key` is a hash of the image's bytes and of all that shapes a caption."""

    __tablename__ = "captions"
    __table_args__ = (Index("ix_captions_created_at", "created_at"),)

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[float] = mapped_column(Float)
    result: Mapped[dict[str, object]] = mapped_column(JsonText())


class DeliveryRow(Table):
    """A webhook call for a finished task or import; the other one's id is NULL.

    `id` is its webhook-id. `due_at` is the time of the next attempt, and `response` is the HTTP
    status of the last one. `host` is the receiver's host and port, in the form of the Host header;
    the number of simultaneous calls to one receiver is limited. `renewed_at` is the time at which a
    command restarted the delivery, or NULL.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_task_id", "task_id"),
        Index("ix_deliveries_import_id", "import_id", **only("import_id IS NOT NULL")),
        Index("ix_deliveries_status_host_due_at", "status", "host", "due_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    import_id: Mapped[str | None] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Float)
    renewed_at: Mapped[float | None] = mapped_column(Float)
    due_at: Mapped[float | None] = mapped_column(Float)
    tried_at: Mapped[float | None] = mapped_column(Float)
    response: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(Text)


class KeyRow(Table):
    """A key of a client. `id` is the beginning of `digest`, the SHA-256 of the key in hex.

    A limit that is NULL is the default of `[clients]`. `revoked_at` is NULL while the key is valid.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JsonText())
    weight: Mapped[float] = mapped_column(Float)
    share: Mapped[float] = mapped_column(Float)
    requests: Mapped[int | None] = mapped_column(Integer)
    concurrent: Mapped[int | None] = mapped_column(Integer)
    images: Mapped[int | None] = mapped_column(Integer)
    body_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class NodeRow(Table):
    """A supervisor that holds claims. `id` is unique to one run of it.

    The lease on all its claims expires at `expires_at`, in Unix seconds of the database's clock.
    `report` says what its model processes can do now, or is NULL if it has not said so.
    """

    __tablename__ = "nodes"

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    expires_at: Mapped[float] = mapped_column(Float)
    report: Mapped[str | None] = mapped_column(Text)


class AskRow(Table):
    """An interactive image that a node without a model asks the others to caption.

    `id` is unique among all nodes, and `asker` is the node that waits. `owner` and `attempt` are
    those of a claim, as of an image of a task. `status` and `result` are set once it is finished.
    On PostgreSQL the table is not logged: a client waits for each row and would send its image
    again, so the rows need no durability.
    """

    __tablename__ = "asks"
    __table_args__ = (
        Index("ix_asks_asker", "asker"),
        Index("ix_asks_owner", "owner"),
    )

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    asker: Mapped[str] = mapped_column(String(48))
    created_at: Mapped[float] = mapped_column(Float)
    client: Mapped[str] = mapped_column(Text)
    weight: Mapped[float] = mapped_column(Float)
    options: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    owner: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str | None] = mapped_column(String(16))
    result: Mapped[str | None] = mapped_column(Text)


class ClockRow(Table):
    """A clock that goes on across restarts. `reached` is its time in Unix seconds."""

    __tablename__ = "clocks"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    reached: Mapped[float] = mapped_column(Float)


class IdentityRow(Table):
    """What tells this database from all others."""

    __tablename__ = "identities"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(32))


class ImportRow(Table):
    """A list of images that lie somewhere else, whose results are written to `output`.

    `sources` are what the command named, as JSON. `listed` says whether all shards are there. While
    they are not, `lister` is the process that adds them, until `lister_until` by the database's
    clock, and `last_address` is a hash of the last one that has a shard. The numbers of `images`,
    `captioned` and `failed` count images; `open_shards` counts shards that are not finished.

    The service works at it if it is `queued`, in its `turn`: the number of images that were claimed
    of it. `problem` says why a process has refused a shard. Its end is posted to `callback_url`.
    """

    __tablename__ = "imports"
    __table_args__ = (Index("ix_imports_created_at_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    output: Mapped[str] = mapped_column(Text, unique=True)
    sources: Mapped[str] = mapped_column(Text)
    form: Mapped[str] = mapped_column(String(16))
    shard_images: Mapped[int] = mapped_column(Integer)
    listed: Mapped[bool] = mapped_column(Boolean)
    lister: Mapped[str | None] = mapped_column(String(64))
    lister_until: Mapped[float | None] = mapped_column(Float)
    last_address: Mapped[str | None] = mapped_column(String(64))
    shards: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    open_shards: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    images: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    captioned: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    queued: Mapped[bool] = mapped_column(Boolean, server_default=false())
    turn: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    problem: Mapped[str | None] = mapped_column(Text)
    callback_url: Mapped[str | None] = mapped_column(Text)


class ShardRow(Table):
    """Some hundred images of an import, which are claimed and finished together.

    `number` is its place, and the number of its file of results. `addresses` are those of its
    images, compressed and in base64, and NULL once it is finished. `attempt` counts the claims and
    fences their results. `owner` holds the claim until `claimed_until` by the database's clock.
    `refusals` counts processes that could not read its images. `blamed` has points of blame of
    images, by their places, as JSON.
    """

    __tablename__ = "shards"
    __table_args__ = (
        UniqueConstraint("import_id", "number"),
        Index(
            "ix_shards_import_id_refusals_number_open",
            "import_id",
            "refusals",
            "number",
            **only("status IN ('PENDING', 'PROCESSING')"),
        ),
        Index("ix_shards_owner_claimed", "owner", **only("owner IS NOT NULL")),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(LONG, primary_key=True, autoincrement=True)
    import_id: Mapped[str] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    owner: Mapped[str | None] = mapped_column(String(64))
    claimed_until: Mapped[float | None] = mapped_column(Float)
    images: Mapped[int] = mapped_column(Integer)
    addresses: Mapped[str | None] = mapped_column(Text)
    refusals: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    blamed: Mapped[str | None] = mapped_column(Text)

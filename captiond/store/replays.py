"""Tasks by the Idempotency-Keys with which they were sent."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.clients import Client
from captiond.errors import KeyReused
from captiond.jobs import NewTask
from captiond.store.engine import Engine, looking_up
from captiond.store.tables import TaskRow


@dataclass(frozen=True, slots=True)
class EarlierTask:
    """A task that came with an Idempotency-Key, and the digest of its request."""

    id: str
    digest: str | None

    def check_same(self, digest: str | None) -> None:
        """Return if another request with the key asks for the same. Raises KeyReused."""
        if digest != self.digest:
            raise KeyReused("this Idempotency-Key came with another request before; use a new one")


async def earlier_task(engine: Engine, client: Client, key: str) -> EarlierTask | None:
    """Return the task that a client has sent with an Idempotency-Key, or None.

    Raises:
        StoreError: It cannot be read now.
    """
    async with looking_up(engine) as connection:
        return await find_by_key(connection, client, key)


async def find_by_key(connection: AsyncConnection, client: Client, key: str) -> EarlierTask | None:
    same = TaskRow.idempotency_key == own_key(client, key)
    before_clients = (TaskRow.idempotency_key == key) & (TaskRow.client == "")
    query = select(TaskRow.id, TaskRow.digest).where(same | before_clients)
    earlier = (await connection.execute(query)).first()
    return EarlierTask(earlier.id, earlier.digest) if earlier is not None else None


async def find_earlier(connection: AsyncConnection, task: NewTask) -> str | KeyReused | None:
    """Return the id of the task that was sent with the key of `task`, or None.

    KeyReused is returned if that task is not the same.
    """
    # guard: one-task-for-a-key
    if task.key is None:
        return None
    earlier = await find_by_key(connection, task.client, task.key)
    if earlier is None:
        return None
    try:
        earlier.check_same(task.digest)
    except KeyReused as error:
        return error
    return earlier.id


def own_key(client: Client, key: str) -> str:
    """Return what is stored of an Idempotency-Key: a hash with the client, who has its own keys.

    Tasks of earlier versions have no client, and have the key itself.
    """
    # guard: keys-of-each-client
    return hashlib.sha256(f"{client.name}\0{key}".encode()).hexdigest()

"""The keys in the database. A revoked key keeps its row, so that the service stays closed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, Text, delete, insert, select, type_coerce, update

from captiond.errors import KeyExists, KeyNotFound
from captiond.keys import Key, Limits, Scope, parse_hash
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.tables import KeyRow

# A column of the type JSON would raise its own errors for a damaged row.
COLUMNS = [
    type_coerce(column, Text) if column.name == "scopes" else column
    for column in KeyRow.__table__.columns
]

LIMITS = ("requests", "concurrent", "images", "body_bytes")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the Unix seconds at which it was created and revoked."""

    key: Key
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """All keys, the oldest first, and the ids of those whose rows are damaged."""

    keys: tuple[StoredKey, ...] = ()
    damaged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether the database has any key, also a revoked or damaged one."""
        return bool(self.keys or self.damaged)


async def stored_keys(engine: Engine) -> StoredKeys:
    """Return all keys, also the revoked ones.

    Raises:
        StoreError: they cannot be read now.
    """
    query = select(*COLUMNS).order_by(KeyRow.created_at, KeyRow.name)
    async with looking_up(engine) as connection:
        rows = (await connection.execute(query)).mappings().all()
    keys, damaged = [], []
    for row in rows:
        try:
            keys.append(stored(row))
        # guard: damaged-key
        except (TypeError, ValueError):
            damaged.append(str(row["id"]))
    return StoredKeys(tuple(keys), tuple(damaged))


def stored(row: RowMapping) -> StoredKey:
    """Return the key of a row. Raises TypeError or ValueError if the row is damaged."""
    key = Key(
        name=row["name"],
        digest=parse_hash(row["digest"]),
        scopes=scopes_from(json.loads(row["scopes"])),
        weight=positive(row["weight"]),
        share=positive(row["share"]),
        limits=Limits(*(limit_from(row[name]) for name in LIMITS)),
    )
    return StoredKey(key, row["created_at"], row["revoked_at"])


def positive(value: object) -> float:
    """Return a weight or a share. Raises ValueError if it is not a positive number."""
    number = float(str(value))
    # Fair turns divide by weights.
    if not 0 < number < math.inf:
        raise ValueError(f"not a positive number: {value}")
    return number


def limit_from(value: object) -> int | None:
    """Return a limit. Raises ValueError if it is not a number."""
    return None if value is None else int(str(value))


def scopes_from(names: Sequence[str]) -> frozenset[Scope]:
    """Return the scopes with these names. Those of a newer captiond permit nothing here."""
    return frozenset(Scope(name) for name in names if name in set(Scope))


async def add_key(engine: Engine, key: Key, *, now: float) -> None:
    """Store a key.

    Raises:
        KeyExists: there is a key with this name, which may be revoked.
        StoreError: it was not stored.
    """
    row = {
        "id": key.id,
        "name": key.name,
        "digest": key.digest.hex(),
        "scopes": sorted(key.scopes),
        "weight": key.weight,
        "share": key.share,
        "requests": key.limits.requests,
        "concurrent": key.limits.concurrent,
        "images": key.limits.images,
        "body_bytes": key.limits.body_bytes,
        "created_at": now,
    }
    async with writing(engine) as connection:
        same = select(KeyRow.id).where(KeyRow.name == key.name)
        if (await connection.execute(same)).first() is not None:
            raise KeyExists(f"{key.name}: there is a key with this name; choose another")
        await connection.execute(insert(KeyRow).values(row))


async def revoke_key(engine: Engine, name: str, *, now: float) -> None:
    """Revoke a key by its name. To revoke it again changes nothing.

    Raises:
        KeyNotFound: there is no such key.
        StoreError: it was not revoked.
    """
    revoked = update(KeyRow).where(KeyRow.name == name, KeyRow.revoked_at.is_(None))
    async with writing(engine) as connection:
        same = select(KeyRow.id).where(KeyRow.name == name)
        if (await connection.execute(same)).first() is None:
            raise not_found(name)
        await connection.execute(revoked.values(revoked_at=now))


async def delete_key(engine: Engine, name: str) -> None:
    """Delete a key by its name.

    Raises:
        KeyNotFound: there is no such key.
        StoreError: it was not deleted.
    """
    async with writing(engine) as connection:
        deleted = await connection.execute(delete(KeyRow).where(KeyRow.name == name))
        if deleted.rowcount == 0:
            raise not_found(name)


def not_found(name: str) -> KeyNotFound:
    return KeyNotFound(f"{name}: the database has no such key; captiond keys list shows all")

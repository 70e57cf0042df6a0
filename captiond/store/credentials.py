"""The keys in the database. A revoked key keeps its row, so that the service stays closed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, delete, insert, select, update

from captiond.errors import KeyExists, KeyNotFound
from captiond.keys import Key, Limits, Scope
from captiond.store.engine import Engine, reading, writing
from captiond.store.tables import KeyRow


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the Unix seconds at which it was created and revoked."""

    key: Key
    created_at: float
    revoked_at: float | None


async def stored_keys(engine: Engine) -> list[StoredKey]:
    """Return all keys, also the revoked ones, the oldest first.

    Raises:
        StoreError: they cannot be read now.
    """
    query = select(KeyRow.__table__).order_by(KeyRow.created_at, KeyRow.name)
    async with reading(engine) as connection:
        return [stored(row) for row in await connection.execute(query)]


def stored(row: Row[*tuple[object, ...]]) -> StoredKey:
    fields = row._mapping
    limits = Limits(
        fields["requests"], fields["concurrent"], fields["images"], fields["body_bytes"]
    )
    key = Key(
        name=fields["name"],
        digest=bytes.fromhex(fields["digest"]),
        scopes=scopes_from(fields["scopes"]),
        weight=fields["weight"],
        share=fields["share"],
        limits=limits,
    )
    return StoredKey(key, fields["created_at"], fields["revoked_at"])


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

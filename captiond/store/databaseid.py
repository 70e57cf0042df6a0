"""The identity of a database: it is the same for all nodes, and goes with a copy."""

import secrets

from sqlalchemy import select

from captiond.store.backend import Statement
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.tables import IdentityRow

NAME = "database"
KEEP = Statement(lambda sql: sql.insert_or_keep(IdentityRow))


async def database_id(engine: Engine) -> str:
    """Return the id of the database, 128 random bits in hex. The first caller makes it.

    Raises:
        StoreError: It cannot be read or written now.
    """
    query = select(IdentityRow.value).where(IdentityRow.name == NAME)
    async with looking_up(engine) as connection:
        found = (await connection.execute(query)).scalar_one_or_none()
    if found is not None:
        return found
    async with writing(engine) as connection:
        row = {"name": NAME, "value": secrets.token_hex(16)}
        await connection.execute(KEEP.on(connection), row)
        return (await connection.execute(query)).scalar_one()

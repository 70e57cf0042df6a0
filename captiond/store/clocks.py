"""Clocks whose time is kept in the database, so that they go on after a restart."""

from collections.abc import Mapping

from sqlalchemy import Float, String, bindparam, select

from captiond.store.backend import Statement
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.tables import ClockRow

NEW = select(bindparam("clock", type_=String), bindparam("time", type_=Float))
SET = Statement(
    lambda sql: sql.insert_or_update(
        ClockRow,
        ("name", "reached"),
        NEW.where(bindparam("clock", type_=String) != ""),
        key="name",
        changes=lambda new: {"reached": new.reached},
    )
)


async def reached(engine: Engine, name: str) -> float | None:
    """Return the time that a clock has reached, in Unix seconds, or None if it is new.

    Raises:
        StoreError: It cannot be read now.
    """
    query = select(ClockRow.reached).where(ClockRow.name == name)
    async with looking_up(engine) as connection:
        return (await connection.execute(query)).scalar_one_or_none()


async def set_reached(engine: Engine, times: Mapping[str, float]) -> None:
    """Store the times that clocks have reached, by their names.

    Raises:
        StoreError: None was stored.
    """
    async with writing(engine) as connection:
        for name, time in times.items():
            await connection.execute(SET.on(connection), {"clock": name, "time": time})

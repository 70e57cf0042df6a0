"""Types of columns that differ between the databases, and indexes of some of the rows."""

import json
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, Text, TypeDecorator, text
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeEngine

# SQLite's integers have 64 bits, and only a column of the type INTEGER can be its row id.
LONG = BigInteger().with_variant(Integer(), "sqlite")


class JsonText(TypeDecorator[Any]):
    """A JSON document. PostgreSQL stores it as text.

    Its own types refuse U+0000, which a prompt may have, and a damaged document, which must be an
    error of its row and not of the statement that reads it.
    """

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return JSON(none_as_null=True) if dialect.name == "sqlite" else Text()

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if dialect.name == "sqlite" or value is None else json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if dialect.name == "sqlite" or value is None else json.loads(value)


def only(condition: str) -> dict[str, Any]:
    """Return the options of an index that has only the rows that meet a condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}

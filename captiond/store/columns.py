"""Types of columns that differ between the databases, and indexes of some of the rows."""

import json
from itertools import chain
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, MetaData, Text, TypeDecorator, text
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeEngine

# SQLite's integers have 64 bits, and only a column of the type INTEGER can be its row id.
LONG = BigInteger().with_variant(Integer(), "sqlite")
ONLY = "only"  # the condition in the information about an index


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
    """Return the options of an index that has only the rows that meet a condition.

    Options of a dialect, such as `postgresql_where`, import the dialect in every process. Only who
    makes or compares tables needs them, see `with_conditions`.
    """
    return {"info": {ONLY: condition}}


def with_conditions(metadata: MetaData) -> MetaData:
    """Give the indexes the conditions of `only` in each dialect, and return the metadata."""
    for index in chain.from_iterable(table.indexes for table in metadata.tables.values()):
        if ONLY in index.info:
            for dialect in ("sqlite", "postgresql"):
                index.dialect_options[dialect]["where"] = text(index.info[ONLY])
    return metadata

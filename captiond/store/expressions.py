"""Expressions whose SQL depends on the database. `sqlite` and `postgres` write them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Float,
    Select,
    Subquery,
    Text,
    bindparam,
    literal_column,
    select,
)
from sqlalchemy import (
    cast as sql_cast,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


class DatabaseClock(FunctionElement[float]):
    """The database's clock, in Unix seconds. It goes on during a transaction."""

    type = Float()
    inherit_cache = True


class EachItem(FunctionElement[Any]):
    """A table with one row `value` for each item of a JSON list in a parameter."""

    inherit_cache = True


class ItemOf(FunctionElement[str]):
    """One item of a JSON list, by its number."""

    type = Text()
    inherit_cache = True


class FieldOf(FunctionElement[Any]):
    """One text field of a JSON column; NULL if it is missing or the JSON is damaged."""

    type = Text()
    inherit_cache = True


class Unindexed(FunctionElement[str]):
    """A column that SQLite does not search by an index."""

    type = Text()
    inherit_cache = True


class OneOf(FunctionElement[bool]):
    """Whether a value is one of those of a subquery, where each value is found by an index."""

    type = Boolean()
    inherit_cache = True


def one_of(column: InstrumentedAttribute[str], values: Select[str]) -> ColumnElement[bool]:
    """Return the condition that a column has one of the values of a parameter.

    PostgreSQL cannot know how many rows a parameter has. With IN, it may compare each row of the
    table with each of them.
    """
    return OneOf(column.expression, values.scalar_subquery())


def clock() -> ColumnElement[float]:
    """Return the database's clock as an expression, in Unix seconds."""
    return DatabaseClock()


def json_field(document: InstrumentedAttribute[Any], name: str) -> ColumnElement[str | None]:
    """Return one text field of a JSON column as an expression; NULL if the JSON is damaged."""
    return FieldOf(document, literal_column(name))


def unindexed(column: InstrumentedAttribute[str]) -> ColumnElement[str]:
    """Return a column as an expression that SQLite does not search by an index.

    Where two indexes fit, SQLite may choose the one with far more rows: it knows nothing about how
    the values are distributed (sqlite.org/optoverview.html, "Disqualifying WHERE Clause Terms").
    PostgreSQL knows that, and gets the plain column.
    """
    return Unindexed(column.expression)


def rows_of(parameter: str, columns: Mapping[str, TypeEngine[Any]]) -> Subquery:
    """Return a table that consists of the rows in a parameter, for statements about many rows.

    The parameter is a JSON list of lists, as `json.dumps` makes it, with one value for each column.
    One statement then changes many rows and can return which of them it changed.
    """
    rows = EachItem(bindparam(parameter, type_=Text)).table_valued("value", name="given")
    values = [
        sql_cast(ItemOf(rows.c.value, literal_column(str(index))), kind).label(name)
        for index, (name, kind) in enumerate(columns.items())
    ]
    return select(*values).subquery(parameter)

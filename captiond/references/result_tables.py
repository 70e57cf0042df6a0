"""Results as tables of Arrow, for Parquet files and for Ray."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from captiond.references.result_rows import FIELDS

TYPES: Mapping[str, pa.DataType] = {
    "tags": pa.list_(pa.string()),
    "score": pa.float64(),
    "confidence": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
}


def type_of(field: str) -> pa.DataType:
    """Return the type of a column. It is text unless `TYPES` says otherwise.

    The types are not taken from the values: a part in which no image failed would have no type for
    the column of errors, and could not be read together with the others.
    """
    return TYPES.get(field, pa.string())


def result_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Return the columns of some results by their names."""
    return {field: pa.array([row[field] for row in rows], type=type_of(field)) for field in FIELDS}


def valid_text(address: str) -> str:
    """Return an address in which bytes that are not UTF-8 are escaped: a column has none."""
    return address.encode(errors="backslashreplace").decode()

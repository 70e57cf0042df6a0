"""The JSON Schemas of the types that operations use. Types with a name stand in one place."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from captiond.web.openapi.field_texts import text_of
from captiond.web.operation import Operation

Schema = dict[str, Any]
Mode = Literal["validation", "serialization"]
REF = "#/components/schemas/{model}"


class UntitledFields(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | Any) -> bool:
        return False


class SchemaSet:
    """The schemas of the types in a table of operations. `shared` are those with a name.

    The fields of dialects mean what other services say, even if one of captiond has the same name.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        table = list(operations)
        types = list(types_of(table))
        by_number, shared = TypeAdapter.json_schemas(
            [(number, mode, TypeAdapter(kind)) for number, (kind, mode) in enumerate(types)],
            ref_template=REF,
            schema_generator=UntitledFields,
        )
        named: dict[str, Schema] = shared.get("$defs", {})
        self._schemas = {
            (id(kind), mode): by_number[number, mode] for number, (kind, mode) in enumerate(types)
        }
        self._types = types  # an id is that of one type as long as the type exists
        # pydantic also defines types that only the code uses, behind a schema of their own.
        used = names_in(list(self._schemas.values()), named)
        self.shared = {name: schema for name, schema in named.items() if name in used}
        own = types_of(each for each in table if each.dialect is None)
        for name in names_in([self.of(*each) for each in own], self.shared):
            describe_fields(name, self.shared[name])

    def of(self, kind: Any, mode: Mode) -> Schema:
        """Return the schema of a type that an operation names."""
        return self._schemas[id(kind), mode]


def types_of(operations: Iterable[Operation]) -> Iterator[tuple[Any, Mode]]:
    """Yield each type that operations name, in the order of the table."""
    for operation in operations:
        for parameter in operation.parameters:
            yield parameter.schema, "validation"
        if operation.body is not None:
            yield operation.body.schema, "validation"
        for response in operation.responses:
            yield from (
                (kind, "serialization")
                for kind in (response.schema, response.item)
                if kind is not None
            )
        yield operation.error_form.schema, "serialization"


def names_in(content: Any, shared: dict[str, Schema]) -> set[str]:
    """Return the names of the shared schemas that a part of a schema refers to, also indirectly."""
    names: set[str] = set()
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in shared and name not in names:
                names.add(name)
                waiting.append(shared[name])
    return names


def describe_fields(name: str, schema: Schema) -> None:
    """Add the description of each field that has none."""
    for field, each in schema.get("properties", {}).items():
        if "description" not in each:
            text = text_of(name, field)
            if text is not None:
                each["description"] = text

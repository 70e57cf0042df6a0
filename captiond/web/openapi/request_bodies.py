"""The request bodies in the document: forms with files, and JSON."""

from typing import Any, get_args

from captiond.notation.textvalues import NotEmpty
from captiond.request_options import RequestOptions
from captiond.settings.config import ImageType
from captiond.web.openapi.schema_set import Schema, SchemaSet
from captiond.web.operation import Operation, ParameterSpec
from captiond.web.uploading.forms import FILENAME, IMAGE, FormSpec
from captiond.web.uploading.named_files import FIELD as PATH_FIELD

FORM, JSON = "multipart/form-data", "application/json"
IMAGE_TYPES = ", ".join(f"image/{name}" for name in get_args(ImageType))
ONE_FILE = "The file with the image."
ONE_TEXT = "The image in base64, or as a data URL in base64."
SEVERAL_TEXTS = (
    "The images. Each is base64 or a data URL, or an object with `image` and its `filename`, or "
    "with the `path` of an image under [images] root."
)
NAME = "The name of the file, which the result has as well."
SEVERAL_FILES = "The files with the images. The field is repeated for each file."
# Read like a JSON list otherwise, see `textvalues.read_list`.
ANY_LIST = r'^(?!\s*\[\s*["\]])'


def request_body(operation: Operation, schemas: SchemaSet) -> Schema | None:
    """Return the entry of an operation's body, or None if it takes none."""
    content: Schema = {}
    if operation.body is not None:
        body = operation.body
        content[body.media_type] = {"schema": schemas.of(body.schema, "validation")}
    if operation.form is not None:
        fields = [each for each in operation.parameters if each.place == "form"]
        if not operation.form.places:
            content[FORM] = form_content(operation.form, fields, schemas)
            content[JSON] = {"schema": json_schema(operation.form, fields, schemas)}
    if not content:
        return None
    about = {"description": operation.body.description} if operation.body is not None else {}
    return {**about, "required": True, "content": content}


def form_content(form: FormSpec, fields: list[ParameterSpec], schemas: SchemaSet) -> Schema:
    """Return the entry of a form: its files, the fields of the operation, and the options."""
    properties: Schema = {form.field: file_field(form)}
    for each in fields:
        schema = schemas.of(each.schema, "validation")
        properties[each.name] = {**as_text(schema), "description": each.description}
    properties |= option_fields()
    schema = {"type": "object", "properties": properties, **ways_to_send(form, fields)}
    return {"schema": schema, "encoding": {form.field: {"contentType": IMAGE_TYPES}}}


def file_field(form: FormSpec) -> Schema:
    file: Schema = {"type": "string", "format": "binary"}
    if form.single:
        return {**file, "description": ONE_FILE}
    return {"type": "array", "items": file, "minItems": 1, "description": SEVERAL_FILES}


def ways_to_send(form: FormSpec, fields: list[ParameterSpec]) -> Schema:
    """Return which fields must be there: files, or the paths of files on the server."""
    if all(each.name != PATH_FIELD for each in fields):
        return {"required": [form.field]}
    return {"anyOf": [{"required": [form.field]}, {"required": [PATH_FIELD]}]}


def json_schema(form: FormSpec, fields: list[ParameterSpec], schemas: SchemaSet) -> Schema:
    """Return the schema of the JSON that stands for a form. Its options have their real types."""
    image = {"type": "string", "description": ONE_TEXT}
    filename = {"type": "string", "description": NAME}
    path = {"type": "string", "description": "The path of an image under [images] root."}
    own: Schema
    if form.single:
        own = {form.field: image, FILENAME: filename, PATH_FIELD: path}
        ways = ways_to_send(form, fields)
    else:
        described = object_of({IMAGE: image, FILENAME: filename}, required=[IMAGE])
        named = object_of({PATH_FIELD: path}, required=[PATH_FIELD])
        items = {"anyOf": [{"type": "string"}, described, named]}
        list_of = {"type": "array", "items": items, "minItems": 1, "description": SEVERAL_TEXTS}
        own, ways = {form.field: list_of}, {"required": [form.field]}
    others = {
        each.name: {**schemas.of(each.schema, "validation"), "description": each.description}
        for each in fields
        if each.name != PATH_FIELD
    }
    return {**object_of({**own, **others, **options()}), **ways}


def object_of(properties: Schema, **more: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def option_fields() -> dict[str, Schema]:
    """Return the options of a request as fields of a form."""
    return {name: as_text(each) for name, each in options().items()}


def options() -> dict[str, Schema]:
    """Return the options of a request with their real types."""
    schema: Schema = RequestOptions.model_json_schema(ref_template="#/$defs/{model}")
    found = {
        name: inlined(each, schema.get("$defs", {})) for name, each in schema["properties"].items()
    }
    for name, field in RequestOptions.model_fields.items():
        if NotEmpty in field.metadata:
            found[name]["minItems"] = 1
    return found


def inlined(schema: Any, shared: dict[str, Schema]) -> Any:
    """Return a schema with the shared schemas in place of the references to them, untitled."""
    if isinstance(schema, list):
        return [inlined(each, shared) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = {**shared[schema["$ref"].rpartition("/")[2]], **schema}
        schema = {key: value for key, value in found.items() if key != "$ref"}
    return {
        key: inlined(value, shared)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def as_text(schema: Schema) -> Schema:
    """Return the schema of a value as a field of a form has it: lists are text with commas.

    A field that is empty counts as absent, so that no field can be null.
    """
    schema = without_null(schema)
    if schema.get("type") != "array":
        return schema
    items = schema["items"]
    choices = "|".join(items.get("enum", ()))
    pattern = rf"^\s*({choices})(\s*,\s*({choices}))*\s*$" if choices else ANY_LIST
    about = f"{schema.get('description', '')} Several values are separated by commas.".strip()
    default = {"default": ",".join(schema["default"])} if schema.get("default") else {}
    return {"type": "string", "description": about, "pattern": pattern, **default}


def without_null(schema: Schema) -> Schema:
    """Return a schema without the alternative null, and without the default null."""
    if "anyOf" not in schema:
        return schema
    (only,) = [each for each in schema["anyOf"] if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return {**only, **rest}

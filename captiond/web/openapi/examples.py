"""Examples of calls, recorded from a running service by `python -m tools.docs --examples`.

The tests make the same calls again and compare the answers, so that no example is out of date.
"""

import base64
import json
import mimetypes
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from captiond.web.openapi.schema_set import Schema

FILE = Path(__file__).with_name("examples.json")
HOST = "http://localhost:8000"
JSON = "application/json"
# In a body of JSON, "@data:a.png" stands for that file as a data URL, "@base64:a.png" as base64.
IN_JSON = re.compile(r"@(data|base64):([\w.-]+)")


@dataclass(frozen=True, slots=True)
class Example:
    """A call and its answer.

    `files` are fields and names of files, in the order in which they are sent. `fields` are the
    other fields of a form, and `json` is a body of JSON. `body` is the answer: JSON, or text if
    its media type is another one. `headers` of the answer are those that the table lists.
    """

    title: str
    method: str
    path: str
    status: int
    media_type: str
    body: Any
    files: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    json: Any = None
    answer_headers: Mapping[str, str] | None = None

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> "Example":
        """Return an example as it is stored."""
        files = tuple((field, name) for field, name in stored.get("files", ()))
        return cls(**{**stored, "files": files})


Examples: TypeAlias = Mapping[str, Sequence[Example]]


def stored_examples() -> Examples:
    """Return the recorded examples by the name of their operation."""
    stored = json.loads(FILE.read_text("utf-8"))
    return {name: [Example.load(each) for each in calls] for name, calls in stored.items()}


def response_examples(responses: dict[str, Schema], recorded: Sequence[Example]) -> None:
    """Add the recorded answers to the responses of an operation."""
    for example in recorded:
        content = responses[str(example.status)].get("content", {}).get(example.media_type)
        if content is not None:
            shown = {"summary": example.title, "value": example.body}
            content.setdefault("examples", {})[slug(example.title)] = shown


def slug(title: str) -> str:
    """Return a name for an example that can stand in a reference."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def code_samples(recorded: Sequence[Example]) -> Schema:
    """Return the calls as commands, in the keyword that documentation tools read."""
    samples = [
        {"lang": "Shell", "label": example.title, "source": curl(example)} for example in recorded
    ]
    return {"x-codeSamples": samples} if samples else {}


def curl(example: Example, host: str = HOST, folder: str = "") -> str:
    """Return a call as a command for a shell. `folder` has the files, and ends with a slash."""
    words = [*map(shlex.quote, arguments(example, folder)), *json_arguments(example.json, folder)]
    return " ".join(["curl", *words, shlex.quote(host + example.path)])


def arguments(example: Example, folder: str) -> Iterator[str]:
    implied = "POST" if example.files or example.json is not None else "GET"
    if example.method != implied:
        yield from ("-X", example.method)
    if example.status == 304:
        yield "-i"  # there is nothing else to see
    for name, value in (example.headers or {}).items():
        yield from ("-H", f"{name}: {value}")
    for field, name in example.files:
        yield from ("-F", f"{field}=@{folder}{name}")
    for field, value in (example.fields or {}).items():
        yield from ("-F", f"{field}={value}")


def json_arguments(body: object, folder: str) -> Iterator[str]:
    """Yield the words for a body of JSON, in which a command puts the files."""
    if body is None:
        return
    yield from ("-H", shlex.quote(f"Content-Type: {JSON}"), "-d")
    text = json.dumps(body, ensure_ascii=False)
    if not IN_JSON.search(text):
        yield shlex.quote(text)
        return
    quoted = re.sub(r'([\\"$`])', r"\\\1", text)

    def command(found: re.Match[str]) -> str:
        return f"{prefix(found)}$(base64 -w0 {folder}{found[2]})"

    yield '"' + IN_JSON.sub(command, quoted) + '"'


def with_files(body: Any, folder: Path) -> Any:
    """Return a body with the content of files where it names them."""
    if isinstance(body, dict):
        return {key: with_files(value, folder) for key, value in body.items()}
    if isinstance(body, list):
        return [with_files(value, folder) for value in body]
    if isinstance(body, str) and (found := IN_JSON.fullmatch(body)):
        return prefix(found) + base64.b64encode((folder / found[2]).read_bytes()).decode()
    return body


def prefix(found: re.Match[str]) -> str:
    """Return what precedes the base64 of a file: the beginning of a data URL, or nothing."""
    kind = mimetypes.guess_type(found[2])[0]
    return f"data:{kind};base64," if found[1] == "data" else ""

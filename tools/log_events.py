"""The events that captiond logs, found in its code, and the table of docs/log-events.md."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.log_event_texts import COMMON_FIELDS, MORE_FIELDS, TEXTS
from tools.markdown import code, table

PACKAGE = Path(__file__).parents[1] / "captiond"
LEVELS = ("debug", "info", "warning", "error")
LOGGERS = {"log", "bound"}
# Helpers that log an event whose name they get, with the levels, and the modules that have them.
HELPERS = {"_log": ("debug", "info"), "Repetition": ("warning",)}
WITH_HELPERS = ("decoding/childoutput.py", "web/connections/listener.py")
PROCESSES = {
    "web": "web",
    "supervisor": "supervisor",
    "cli": "supervisor",
    "worker": "model",
    "captioners": "model",
    "decoding": "model",
    "tagging": "model",
}
ANY = "any"  # of events in modules that all processes use


@dataclass
class Event:
    """One event: the levels it is logged at, its own fields, and the processes that log it."""

    levels: set[str] = field(default_factory=set)
    fields: dict[str, None] = field(default_factory=dict)  # in the order of the code
    processes: set[str] = field(default_factory=set)


class UnknownEvent(Exception):
    """The name of an event is computed, so that nobody can search for it."""


def events() -> dict[str, Event]:
    """Return all events by their names.

    Raises:
        UnknownEvent: a call logs something whose name is not in the code.
    """
    found: dict[str, Event] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0]
        for name, levels, fields in calls_in(ast.parse(path.read_text("utf-8")), path):
            event = found.setdefault(name, Event())
            event.levels.update(levels)
            event.fields.update(dict.fromkeys(fields))
            event.processes.add(PROCESSES.get(package, ANY))
    for name, more in MORE_FIELDS.items():
        found[name].fields.update(dict.fromkeys(more))
    return found


def calls_in(tree: ast.AST, path: Path) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Yield the name, the levels and the fields of each call that logs."""
    bound = bound_fields(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (call := logging_call(node)) is None:
            continue
        logger, levels, event = call
        fields = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
        fields = [name for name in fields if name != "exc_info"]
        names = [*constants(event)] if event is not None else []
        if not names and not str(path).endswith(WITH_HELPERS):
            raise UnknownEvent(f"{path}:{node.lineno}")
        for name in names:
            yield name, levels, [*(bound if logger == "bound" else []), *fields]


def logging_call(node: ast.Call) -> tuple[str, tuple[str, ...], ast.expr | None] | None:
    """Return the logger, the levels and the event of a call, None if it logs nothing."""
    first = node.args[0] if node.args else None
    match node.func:
        case ast.Attribute(value=ast.Name(id=logger), attr=level) if logger in LOGGERS:
            if level in LEVELS:
                return logger, (level,), first
            if level == "exception":
                return logger, ("error",), first
            if level == "log":
                return logger, ("debug", "info"), node.args[1]
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in HELPERS:
            return "log", HELPERS[name], first
    return None


def bound_fields(tree: ast.AST) -> list[str]:
    """Return the fields that `bound = log.bind(…)` adds to all entries of `bound`."""
    return [
        keyword.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "bound"
        and isinstance(node.value, ast.Call)
        for keyword in node.value.keywords
        if keyword.arg is not None
    ]


def constants(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can be: a constant, or either of two."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from constants(body)
            yield from constants(orelse)


def reference() -> str:
    """Return the tables of the page: the common fields, and all events."""
    common = table(
        ("field", "meaning"), ((code(name), text) for name, text in COMMON_FIELDS.items())
    )
    header = ("event", "level", "process", "fields", "meaning")
    rows = (row_of(name, event) for name, event in sorted(events().items()))
    return f"\n{common}\n## Events\n\n{table(header, rows)}\n"


def row_of(name: str, event: Event) -> tuple[str, ...]:
    levels = ", ".join(level for level in LEVELS if level in event.levels)
    processes = ", ".join(sorted(event.processes))
    return code(name), levels, processes, ", ".join(map(code, event.fields)), TEXTS[name]

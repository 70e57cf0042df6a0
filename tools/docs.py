"""Write the reference tables in docs/ from the code: `python -m tools.docs`.

A table is between the lines `<!-- tools.docs: NAME -->` and `<!-- end -->`. A test fails if a table
is not up to date. With `--examples`, the examples of the HTTP API are first recorded from a service
that is started for it.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from captiond.cli.described import values_of
from captiond.cli.main import app
from captiond.request_options import RequestOptions
from captiond.settings.option_settings import TagSettings
from tools import api_page, log_events, metrics_page
from tools.markdown import code, table

DOCS = Path(__file__).parents[1] / "docs"
TABLE = re.compile(r"(<!-- tools\.docs: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
EXAMPLES = "--examples"
COMMON = ("--config", "--data-dir", "--set")
SETTINGS_ONLY = ("synonyms",)  # settings of tags that are no options of a request


def main() -> None:
    """Update the tables of all pages in docs/."""
    if EXAMPLES in sys.argv[1:]:
        record_examples()
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(rewritten(path.read_text("utf-8")), "utf-8")


def record_examples() -> None:
    """Record the examples of the HTTP API. An example that has not changed is kept."""
    from tests.service import running, running_without_model
    from tools import api_calls

    with TemporaryDirectory() as folder:
        data, other = Path(folder) / "data", Path(folder) / "waiting"
        with (
            running(data, **api_calls.LISTS_TASKS) as service,
            running_without_model(other) as waiting,
        ):
            api_calls.store(api_calls.record(service, waiting, "holiday-photos-1"))


def rewritten(text: str) -> str:
    """Return the text of a page with its tables up to date."""
    return TABLE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def generation_table() -> str:
    """Return the table of the options that concern captions."""
    names = [name for name in RequestOptions.model_fields if tag_setting(name) is None]
    return table(
        ("field", "what it does", "values", "default"),
        (
            (code(name), description(name), values_of(RequestOptions, name), default_of(name))
            for name in names
        ),
    )


def tags_table() -> str:
    """Return the table of the options that concern tags, with the setting of each."""
    return table(
        ("form field", "setting", "what it does", "values", "default"),
        (
            (
                code(name),
                code(f"tags.{setting}"),
                description(name),
                values_of(RequestOptions, name),
                code(TagSettings().language) if name == "language" else default_of(name),
            )
            for name in RequestOptions.model_fields
            if (setting := tag_setting(name)) is not None
        ),
    )


def tag_setting(name: str) -> str | None:
    """Return the key in `[tags]` of a request option, None if it has none there."""
    key = name.removeprefix("tag_")
    return key if key in TagSettings.model_fields else None


def description(name: str) -> str:
    return RequestOptions.model_fields[name].description or ""


def default_of(name: str) -> str:
    """Return a request option's default, empty if only the settings know it."""
    value = RequestOptions.model_fields[name].default
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(code, value)) or "none"
    return "none" if value == "" else code(value if isinstance(value, str) else json.dumps(value))


def commands() -> str:
    """Return a section for each command: its help, its arguments and its own flags."""
    return "\n" + "\n".join(command_section(*each) for each in leaves("captiond", click_app()))


@cache
def click_app() -> Any:
    """Return all commands with their flags, which take a thirtieth of a second to make."""
    return typer.main.get_command(app)


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the full name of each command that has no subcommands, and the command."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield name, command
        return
    for part, subcommand in subcommands.items():
        yield from leaves(f"{name} {part}", subcommand)


def command_section(name: str, command: Any) -> str:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    context = command.make_context(name, [], resilient_parsing=True)
    own = [parameter for parameter in parameters if not set(COMMON) & set(parameter.opts)]
    shared = [flag for flag in COMMON if any(flag in each.opts for each in parameters)]
    rows = [(code(flag), text) for flag, text in (help_of(each, context) for each in own)]
    parts = [f"### {name}", (command.help or "").strip()]
    if rows:
        parts.append(table(("argument or flag", ""), rows).strip())
    if shared:
        parts.append(f"Also {', '.join(map(code, shared))}.")
    return "\n\n".join(parts) + "\n"


def help_of(parameter: Any, context: Any) -> tuple[str, str]:
    """Return how a parameter is written, and its help, as `--help` prints them."""
    spelling, text = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        spelling = spelling.partition(" ")[0]
    return spelling, text.replace("  [", " [")


TABLES: dict[str, Callable[[], str]] = {
    "generation": generation_table,
    "tags": tags_table,
    "commands": commands,
    "common_errors": api_page.common_errors,
    "operations": api_page.operations_table,
    "reference": api_page.reference,
    "metrics": metrics_page.reference,
    "alerts": metrics_page.alerts,
    "log_events": log_events.reference,
}

if __name__ == "__main__":
    main()

"""What the docs say about settings, commands, errors and operations is what the code has."""

import ast
import importlib.util
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route

import captiond.cli.tags_command
import captiond.jobs
import captiond.web.problems  # these three define errors of their own
from captiond.errors import CaptiondError, SettingsError
from captiond.request_options import RequestOptions
from captiond.settings.sources import sections
from captiond.web.app import routes
from captiond.web.async_tasks.callback_url import FIELD
from captiond.web.operations import OPERATIONS
from tools.docs import TABLE, TABLES, click_app, rewritten

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
SAMPLE = (ROOT / "captiond.toml").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
COMMANDS = {"captiond", ".venv/bin/captiond", "/opt/captiond/bin/captiond"}
# Programs that are not ours. Their arguments are not checked.
OTHERS = {
    "chown", "cp", "createdb", "createuser", "docker", "echo", "export", "install", "journalctl",
    "python3.11", "/opt/captiond/bin/pip", "pg_dump", "pg_restore", "rm", "sqlite3", "systemctl",
}  # fmt: skip
FILE_FIELDS = {"image", "images", "path"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


# ---------------------------------------------------------------- settings and options


@pytest.mark.parametrize("section", sections())
def test_every_setting_is_in_the_sample(section: str) -> None:
    """tests/unit/test_config.py checks that the sample holds the defaults."""
    lines = section_lines(section)
    for key in sections()[section].model_fields:
        assert any(line.startswith((f"{key} = ", f"# {key} = ")) for line in lines) or (
            f"[{section}.{key}]" in SAMPLE
        ), f"{section}.{key} is missing"


def section_lines(section: str) -> list[str]:
    text = SAMPLE.partition(f"\n[{section}]")[2]
    return re.split(r"^\[", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()


@pytest.mark.parametrize("section", sections())
def test_every_setting_has_a_description(section: str) -> None:
    for key, field in sections()[section].model_fields.items():
        assert field.description, f"{section}.{key}"
        assert field.description.endswith("."), f"{section}.{key}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_code(path: Path) -> None:
    """`python -m tools.docs` writes them."""
    text = path.read_text("utf-8")
    assert text == rewritten(text)


def test_every_table_is_in_one_page() -> None:
    text = "".join(path.read_text("utf-8") for path in PAGES)
    assert sorted(found[1] for found in TABLE.findall(text)) == sorted(TABLES)


def test_every_code_that_can_be_retried_is_listed() -> None:
    """By the command that retries, and by the page that explains it."""
    command, _ = find_command(["tasks", "retry"])
    section = page("operating.md").partition("## Tasks\n")[2].partition("\n## ")[0]
    for code in captiond.jobs.RETRYABLE:
        assert code in command.help, code
        assert f"`{code}`" in section, code


def test_every_option_and_every_command_has_its_table() -> None:
    pages = page("captions.md") + page("tags.md")
    assert [name for name in RequestOptions.model_fields if f"| `{name}` |" not in pages] == []
    assert "### captiond serve" in page("commands.md")


# ---------------------------------------------------------------- errors


def documented_errors() -> dict[str, str]:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| [^|]+ \| [^|]+ \|$", page("errors.md"), re.MULTILINE
    )
    assert len(rows) == len(dict(rows)), "a code is documented twice"
    return dict(rows)


def test_every_error_code_is_documented_and_every_documented_code_exists() -> None:
    assert set(documented_errors()) == set(codes_in_source())


def codes_in_source() -> Iterator[str]:
    for path in (ROOT / "captiond").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            yield from codes_of(node)
    yield from captiond.web.problems.HTTP_CODES.values()
    yield "http_error"


def codes_of(node: ast.AST) -> Iterator[str]:
    """Yield the codes in `code = "…"`, in `f(code="…")` and in `Refused(…, "…")`."""
    match node:
        case ast.ClassDef():
            for line in node.body:
                match line:
                    case ast.Assign(
                        targets=[ast.Name(id="code")], value=ast.Constant(value=str(v))
                    ):
                        yield v
                    case ast.AnnAssign(
                        target=ast.Name(id="code"), value=ast.Constant(value=str(v))
                    ) if v:
                        yield v
        case ast.keyword(arg="code", value=ast.Constant(value=str(v))) if v:
            yield v
        case ast.Call(func=ast.Name(id="Refused"), args=[_, ast.Constant(value=str(v)), *_]):
            yield v


def test_every_error_has_the_status_that_is_documented() -> None:
    documented = documented_errors()
    commands = page("errors.md").partition("## Commands")[2]
    for error in set(subclasses(CaptiondError)):
        if not error.__module__.startswith("captiond."):
            continue  # another test's
        status = documented[error.code]
        if f"| `{error.code}` |" in commands:
            assert status == ("2" if issubclass(error, SettingsError) else "1"), error
        else:
            assert status == str(error.status), error


def subclasses(error: type[CaptiondError]) -> Iterator[type[CaptiondError]]:
    yield error
    for subclass in error.__subclasses__():
        yield from subclasses(subclass)


# ---------------------------------------------------------------- operations


def operations() -> Iterator[tuple[str, str]]:
    """Yield the method and the path of every operation."""
    for route in routes(OPERATIONS):
        if isinstance(route, Mount):
            continue
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path.replace(":path", "")


def test_every_operation_is_documented_and_every_documented_operation_exists() -> None:
    documented = re.findall(r"^\| \[`([A-Z]+) (\S+)`\]", page("api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(operations())


def test_every_operation_of_a_dialect_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z]+) (\S+)` \|", page("dialects.md"), re.MULTILINE)
    of_dialects = [(each.method, each.path) for each in OPERATIONS if each.dialect is not None]
    assert sorted(explained) == sorted(of_dialects)


def test_every_mounted_folder_is_documented() -> None:
    mounts = [route.path for route in routes(OPERATIONS) if isinstance(route, Mount)]
    assert [path for path in mounts if f"`{path}`" not in page("api.md")] == []


# ---------------------------------------------------------------- commands in the pages


def shell_lines(path: Path) -> Iterator[str]:
    """Yield the commands in the `sh` blocks of a page, without the output that is shown."""
    for block in re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
        lines = block.replace("\\\n", "").splitlines()
        shown = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from shown or [line for line in lines if line.strip()]


def inline_commands(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for command in re.findall(r"`(captiond [^`]+)`", text):
        yield " ".join(command.split())


def words_of(line: str) -> list[str]:
    """Return the words of a command up to a pipe, a redirection or a comment."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", line), comments=True)
    end = next(
        (n for n, word in enumerate(words) if word in {"|", ">", ">>", "<", "&&"}), len(words)
    )
    return words[:end]


SHELL = [(path.name, line) for path in PAGES for line in shell_lines(path)]
INLINE = sorted({(path.name, line) for path in PAGES for line in inline_commands(path)})


def test_commands_are_found_in_the_pages() -> None:
    assert len(SHELL) > 20
    assert len(INLINE) > 20


@pytest.mark.parametrize(("name", "line"), SHELL)
def test_a_command_in_a_page_can_be_run(name: str, line: str) -> None:
    program, *arguments = words_of(line)
    if program in COMMANDS:
        parse(arguments)
    elif program in CHECKS:
        CHECKS[program](arguments)
    else:
        assert program in OTHERS


@pytest.mark.parametrize(("name", "line"), INLINE)
def test_a_command_in_a_sentence_exists(name: str, line: str) -> None:
    """Arguments may be left out in a sentence, so that only command and flags are checked."""
    command, arguments = find_command(words_of(line)[1:])
    known = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
    assert {word for word in arguments if word.startswith("-")} <= known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_targets_and_modules_in_a_sentence_exist(path: Path) -> None:
    for code in re.findall(r"`((?:make|python) [^`]+)`", path.read_text("utf-8")):
        program, *arguments = words_of(code)
        CHECKS[program](arguments)


def test_the_makefile_explains_each_of_its_targets() -> None:
    explained = re.findall(r"^# make ([\w-]+) ", MAKEFILE, re.MULTILINE)
    assert sorted(explained) == sorted(set(targets()) - {"clean"})


def targets() -> list[str]:
    return re.findall(r"^([a-z][\w-]*):(?! export)", MAKEFILE, re.MULTILINE)


def check_make(arguments: list[str]) -> None:
    assert {word for word in arguments if "=" not in word} <= set(targets())


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    assert importlib.util.find_spec(arguments[1]) is not None


def parse(arguments: list[str]) -> None:
    """Parse a command line as `captiond` does, without running the command."""
    command, rest = find_command(arguments)
    assert not hasattr(command, "commands"), "a command is missing"
    command.make_context("captiond", rest)


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and the words after its name."""
    command, rest = click_app(), list(words)
    while hasattr(command, "commands") and rest and re.fullmatch("[a-z]+", rest[0]):
        command = command.commands[rest.pop(0)]
    return command, rest


def check_curl(arguments: list[str]) -> None:
    values = defaultdict(list)
    for word, after in pairwise(arguments):
        values[word].append(after)
    forms = values["-F"]
    fields = {form.partition("=")[0] for form in forms}
    assert fields <= FILE_FIELDS | {FIELD} | set(RequestOptions.model_fields)
    files = [form.partition("=@")[2] for form in forms if "=@" in form]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    path = arguments[-1].removeprefix("localhost:8000").partition("?")[0]
    of_dialects = {operation.path for operation in OPERATIONS if operation.dialect is not None}
    documents = [json.loads(text) for text in values["-d"]]
    for document in documents if path not in of_dialects else ():
        assert document.keys() <= {"image", "images", "filename", *RequestOptions.model_fields}
    (method,) = values["-X"] or ["POST" if forms or documents else "GET"]
    assert any(
        isinstance(route, Route)
        and method in (route.methods or ())
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
        for route in routes()
    ), path


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "curl": check_curl,
    "python": check_python,
}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_figure_names_tests_that_exist(path: Path) -> None:
    """In a command with pytest, and in the column of tests in reliability.md."""
    text = path.read_text("utf-8")
    for file, name in re.findall(r"pytest (?:-s )?(tests/\S+?\.py)(?: -k (\w+))?`", text):
        assert selected_tests(name, ROOT / file), (file, name)
    if path.name == "reliability.md":
        names = re.findall(r"^\| [^|]+ \| `(\w+)` \|", text, re.MULTILINE)
        assert names
        folders = (ROOT / "tests" / "faults", ROOT / "tests" / "nodes")
        files = [file for folder in folders for file in sorted(folder.glob("test_*.py"))]
        assert [name for name in names if not selected_tests(name, *files)] == []


def selected_tests(name: str, *files: Path) -> list[str]:
    """Return the tests in these files that `-k name` selects."""
    pattern = rf"^(?:async )?def (test_\w*{name}\w*)\("
    return [
        test
        for file in files
        for test in re.findall(pattern, file.read_text("utf-8"), re.MULTILINE)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text("utf-8")):
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings
            }

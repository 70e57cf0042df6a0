"""The examples of the OpenAPI document and of docs/api.md are what a running service does."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from captiond.web.openapi.examples import HOST, curl, stored_examples
from tests.patience import PATIENCE
from tests.service import DATA, Service, running, running_without_model
from tools.api_calls import LISTS_TASKS, changes, record

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
CLIENTS = PAGE.partition("\n## Clients in several languages\n")[2].partition("\n## ")[0]
# How the program of each language is run, where there is something to run it.
RUNNERS = {
    "python": [sys.executable, "FILE.py"],
    "javascript": ["node", "FILE.mjs"],
    "bash": ["bash", "FILE.sh"],
    "go": ["go", "run", "FILE.go"],
    "csharp": ["dotnet", "run", "FILE.cs"],
}
CAPTIONS = ("a red boat to the left of a yellow sun", "a yellow star inside a blue circle")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that does what the examples show."""
    with running(tmp_path_factory.mktemp("api") / "data", **LISTS_TASKS) as service:
        yield service


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose images all wait."""
    with running_without_model(tmp_path_factory.mktemp("waiting") / "data") as service:
        yield service


def test_the_service_answers_as_the_examples_say(api: Service, waiting: Service) -> None:
    """`python -m tools.docs --examples` records them again."""
    stored, recorded = stored_examples(), record(api, waiting, uuid4().hex)
    assert list(stored) == list(recorded)
    for name, examples in stored.items():
        assert len(examples) == len(recorded[name])
        for example, answered in zip(examples, recorded[name], strict=True):
            assert changes(example, answered) == []


@pytest.mark.parametrize("name", [name for name, each in stored_examples().items() if each])
def test_a_command_of_the_examples_does_what_it_shows(api: Service, name: str) -> None:
    """Except for tasks and imports: the commands have the ids of earlier ones."""
    for example in stored_examples()[name]:
        command = curl(example, api.url).replace("curl ", "curl -s -o /dev/null -w '%{http_code}' ")
        printed = subprocess.run(
            ["bash", "-c", command],
            cwd=DATA,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        names_one = "/task_" in example.path or "/import_" in example.path
        expected = {example.status, 404} if names_one else {example.status}
        assert int(printed.stdout[-3:]) in expected


@pytest.mark.parametrize("language", RUNNERS)
def test_a_client_of_the_page_works(api: Service, tmp_path: Path, language: str) -> None:
    (program,) = re.findall(rf"```{language}\n(.*?)```", CLIENTS, re.DOTALL)
    assert HOST in program
    command = RUNNERS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    file = tmp_path / f"client{Path(command[-1]).suffix}"
    file.write_text(program.replace(HOST, api.url), "utf-8")
    result = subprocess.run(
        [*command[:-1], str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert result.returncode == 0, result.stderr
    for caption in CAPTIONS:
        assert caption in result.stdout
    assert "COMPLETED" in result.stdout or "star_inside_circle.png" in result.stdout

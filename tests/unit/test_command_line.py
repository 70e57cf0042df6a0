"""The command line as a whole: errors of usage, help, settings files, completion, pull."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from captiond.cli.main import app
from captiond.settings.config import Settings
from tests.commands import command
from tests.patience import PATIENCE
from tools.docs import click_app, leaves

WORDS_FOR_PROGRAMMERS = ("<bool>", "<str>", "<int", "<float", "list[Path]", "x<=", "115292")
MAIN = "from captiond.__main__ import main; main()"
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # the discard port: nobody listens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "serve --prot 1",
            "there is no option --prot, did you mean --host or --port?; see captiond serve --help",
        ),
        ("serve --port x", "'--port': Input should be a valid integer"),
        ("tasks list --limit 0", "0 is not between 1 and 10000"),
        ("caption", "missing argument 'PATH'; see captiond caption --help"),
        ("nonsense", "no such command 'nonsense'; see captiond --help"),
        ("keys create a --images -1", "-1 is not between 0 and"),
        ("tasks redeliver", "give either a task or --failed; see captiond tasks redeliver --help"),
        ("caption --sidecar pdf x", "'pdf' is not one of 'txt', 'json', 'xmp'"),
        ("completion csh", "'csh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(tmp_path: Path, arguments: str, message: str) -> None:
    result = command(*arguments.split(), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("captiond: command line: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        *(name for name, _ in leaves("captiond", click_app())),
        *("captiond", "captiond tasks", "captiond keys", "captiond db", "captiond config"),
    ],
)
def test_every_help_can_be_read_by_people(name: str, tmp_path: Path) -> None:
    result = command(*name.split()[1:], "--help", cwd=tmp_path, COLUMNS="100")
    assert result.returncode == 0
    assert [word for word in WORDS_FOR_PROGRAMMERS if word in result.stdout] == []


def test_help_imports_no_model_libraries() -> None:
    script = (
        "import sys; import captiond.cli.main as main\n"
        "sys.argv = ['captiond', 'caption', '--help']\n"
        "main.run()\n"
        "heavy = {'torch', 'transformers', 'spacy', 'numpy', 'PIL', 'sqlalchemy', 'starlette'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stderr == "[]\n"


# ---------------------------------------------------------------- settings


def test_a_settings_file_is_written_and_never_replaced_silently(tmp_path: Path) -> None:
    result = command("config", "init", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    written = tmp_path / "captiond.toml"
    assert set(tomllib.loads(written.read_text())) == set(Settings.model_fields)
    assert "# " in written.read_text()
    assert command("config", "show", cwd=tmp_path).returncode == 0
    written.write_text("# mine")
    again = command("config", "init", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == (
        "captiond: captiond.toml exists; choose another name, or replace it with --force\n"
    )
    assert written.read_text() == "# mine"
    assert command("config", "init", "--force", cwd=tmp_path).returncode == 0
    assert written.read_text() != "# mine"
    nowhere = command("config", "init", "no/such/folder.toml", cwd=tmp_path)
    assert "cannot be written: No such file or directory" in nowhere.stderr


# ---------------------------------------------------------------- pull


@pytest.mark.parametrize("name", ["captiond/scenes", "folder"])
def test_what_is_on_this_machine_is_not_downloaded(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / file).write_text("{}")
    result = command("pull", name, cwd=tmp_path, **NO_HUB)
    assert result.returncode == 0
    assert "there is nothing to download" in result.stderr
    assert result.stdout.strip().endswith("scenes" if name == "captiond/scenes" else "folder")


def test_without_a_hub_the_ways_to_a_model_are_listed(tmp_path: Path) -> None:
    script = f"import sys; sys.argv = ['captiond', 'pull', 'some/model']; {MAIN}"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env={**os.environ, **NO_HUB}, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    said = result.stderr.splitlines()
    assert said[0] == "captiond: downloading some/model to data/models"
    assert said[1].startswith("captiond: some/model cannot be downloaded from http://127.0.0.1:9: ")
    assert all(line.startswith("captiond: ") for line in said)
    for way in (
        "HF_ENDPOINT=https://MIRROR captiond pull some/model",
        "to data/models",
        "[model] name",
    ):
        assert way in result.stderr


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_knows_every_command_and_flag(tmp_path: Path, shell: str) -> None:
    script = command("completion", shell, cwd=tmp_path).stdout
    for name, leaf in leaves("captiond", click_app()):
        assert name.split()[-1] in script
        for parameter in leaf.params:
            for flag in getattr(parameter, "opts", ()):
                assert not flag.startswith("--") or flag[2:] in script, (name, flag)
    assert app.info.name == "captiond"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("captiond ta", "tags tasks"),
        ("captiond tasks sh", "show"),
        ("captiond tasks ", "list show cancel retry redeliver"),
        ("captiond serve --wor", "--workers"),
        ("captiond caption --sidecar ", "txt json xmp"),
        ("captiond caption --url http://x --skip", "--skip-existing"),
        ("captiond caption --config ", ""),
        ("captiond caption ph", ""),
        ("captiond completion f", "fish"),
        ("captiond tasks list --status can", "cancelled"),
    ],
)
def test_bash_completes_words(tmp_path: Path, line: str, words: str) -> None:
    script = command("completion", "bash", cwd=tmp_path).stdout
    ask = (
        f"{script}\n"
        f"line='{line}'\n"
        'COMP_WORDS=($line); [[ $line == *" " ]] && COMP_WORDS+=("")\n'
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _captiond; echo ${COMPREPLY[*]}"
    )
    result = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE
    )
    assert (result.stdout.strip(), result.stderr) == (words, "")

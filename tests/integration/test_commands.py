"""The commands beside `serve`: what they print, where, and how they exit."""

import csv
import json
import os
import shutil
import tomllib
from pathlib import Path

from captiond.settings.config import Settings
from tests.commands import command
from tests.service import DATA, MODEL, ONE_THREAD, captiond

CAPTIONS: dict[str, str] = json.loads((DATA / "scenes.json").read_text())
SCENE = str(DATA / "boat_and_sun.png")
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


def test_a_folder_of_images_in_a_pipe_is_json_lines_in_order(tmp_path: Path) -> None:
    folder = copied_scenes(tmp_path)
    result = captiond("caption", "--model", MODEL, str(folder), cwd=tmp_path, **ONE_THREAD)
    assert (result.returncode, result.stderr) == (0, "")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(entry["image_path"]).name for entry in found] == sorted(CAPTIONS)
    assert {Path(entry["image_path"]).name: entry["caption"] for entry in found} == CAPTIONS
    boat = next(entry for entry in found if entry["image_path"].endswith("boat_and_sun.png"))
    assert {"boat", "red boat", "sun", "yellow sun"} <= set(boat["tags"])


def copied_scenes(folder: Path) -> Path:
    """Return a folder with the scenes whose captions are known."""
    scenes = folder / "scenes"
    scenes.mkdir()
    for name in CAPTIONS:
        shutil.copy(DATA / name, scenes)
    return scenes


def test_a_bad_file_spoils_no_other_and_the_exit_code_tells(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    files = (str(bad), "gone.png", SCENE)
    result = command("caption", "--model", MODEL, "--json", *files, cwd=tmp_path, **ONE_THREAD)
    found = json.loads(result.stdout)
    assert [entry.get("code") for entry in found] == ["not_an_image", "unreadable_file", None]
    assert found[2]["caption"] == CAPTIONS["boat_and_sun.png"]
    assert result.returncode == 1


def test_csv_has_the_same_results(tmp_path: Path) -> None:
    odd = tmp_path / NOT_UTF8
    odd.write_bytes(Path(SCENE).read_bytes())
    run = ("caption", "--model", MODEL, SCENE, odd.name, "--csv")
    lines = command(*run, cwd=tmp_path, **ONE_THREAD).stdout.splitlines()
    row, of_odd_name = csv.DictReader(lines)
    assert row["caption"] == of_odd_name["caption"] == CAPTIONS["boat_and_sun.png"]
    assert of_odd_name["image_path"] == r"caf\udce9.png"
    assert {"boat", "red boat", "sun", "yellow sun"} <= set(row["tags"].split(", "))
    both = command(*run, "--json", cwd=tmp_path)
    assert (both.returncode, both.stderr.strip()) == (
        2,
        "captiond: command line: choose one of --json, --csv",
    )


def test_a_missing_model_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    result = command("caption", "--model", "/nowhere", SCENE, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("captiond: /nowhere: no model there; ")
    offline = {"HF_HUB_OFFLINE": "1"}
    result = captiond("pull", "Salesforce/blip-image-captioning-base", cwd=tmp_path, **offline)
    assert result.returncode == 1
    assert "captiond pull Salesforce/blip-image-captioning-base" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_settings_in_force_can_be_shown(tmp_path: Path) -> None:
    environ = {"CAPTIOND_SERVER__PORT": "81"}
    shown = captiond("config", "show", "--set", "logs.level=debug", cwd=tmp_path, **environ)
    assert "port = 81  # <- environment; default: 8000" in shown.stdout
    assert 'level = "debug"  # <- command line; default: "info"' in shown.stdout
    assert "workers = 1  # default" in shown.stdout
    changed = command("config", "show", "--changed", cwd=tmp_path, **environ).stdout
    assert changed == "[server]\nport = 81  # <- environment; default: 8000\n"
    assert set(tomllib.loads(shown.stdout)) == set(Settings.model_fields)
    values = json.loads(command("config", "show", "--json", cwd=tmp_path, **environ).stdout)
    assert values["server"]["port"] == 81


def test_the_entries_of_a_table_are_shown_with_their_sources(tmp_path: Path) -> None:
    run = ("config", "show", "--set", "tags.pipelines.fr=b")
    shown = command(*run, cwd=tmp_path, CAPTIOND_TAGS__PIPELINES__DE="a").stdout
    line = next(line for line in shown.splitlines() if line.startswith("pipelines = "))
    assert "  # <- en: default, de: environment, fr: command line; default: " in line
    pipelines = {"en": "captiond/english", "de": "a", "fr": "b"}
    assert tomllib.loads(shown)["tags"]["pipelines"] == pipelines


def test_what_is_shown_can_be_read_as_settings(tmp_path: Path) -> None:
    shown = command("config", "show", cwd=tmp_path).stdout
    (tmp_path / "captiond.toml").write_text(shown)
    assert command("config", "show", "--json", cwd=tmp_path).stdout == (
        Settings().model_dump_json(indent=2) + "\n"
    )


def test_a_path_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    """As JSON it is escaped. No settings file can have it, so what looks like one does not."""
    path = os.fsdecode(b"caf\xe9")
    show = ("config", "show", "--data-dir", path, "--set", f"translation.dictionaries.de={path}")
    values = command(*show, "--json", cwd=tmp_path)
    assert values.returncode == 0
    assert json.loads(values.stdout.encode())["data"]["dir"] == "caf\udce9"
    shown = command(*show, cwd=tmp_path).stdout
    assert r'# dir = "caf\udce9", which is not UTF-8' in shown
    assert r'# dictionaries = {"de" = "caf\udce9"}, which is not UTF-8' in shown
    assert tomllib.loads(shown)["data"] == {}


def test_an_assignment_of_no_known_form_is_refused(tmp_path: Path) -> None:
    for wrong in ("port=80", "server.port", "server.prot=80"):
        result = command("config", "show", "--set", wrong, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("captiond: command line: ")


def test_file_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    """Also where the locale has no letters beyond ASCII."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / NOT_UTF8).write_bytes(Path(SCENE).read_bytes())
    run = ("caption", "--model", MODEL, "in")
    lines = captiond(*run, cwd=tmp_path, LC_ALL="C", **ONE_THREAD)
    assert (lines.returncode, lines.stderr) == (0, "")
    assert json.loads(lines.stdout)["image_path"] == f"in/{NOT_UTF8}"


def test_a_folder_without_images_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = command("caption", "--model", MODEL, "--json", "empty", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "[]\n")
    assert result.stderr == "captiond: no images in empty\n"
    terminal = command("caption", "empty", "-o", "all.csv", cwd=tmp_path, FORCE_COLOR="1").stderr
    assert "no images in empty" in terminal
    assert "0/0" not in terminal, "a bar of nothing"


def test_a_part_of_a_service_names_what_it_lacks(tmp_path: Path) -> None:
    for arguments, role in ((("worker",), "worker"), (("serve", "--no-model"), "web")):
        result = captiond(*arguments, "--port", "0", "--data-dir", "data", cwd=tmp_path)
        assert result.returncode == 2
        assert f"captiond: [node] role = {role}: " in result.stderr
        assert "[database] url" in result.stderr
        assert not (tmp_path / "data").exists()

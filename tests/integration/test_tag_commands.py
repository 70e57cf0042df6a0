"""`captiond tags` and `captiond check`, run as commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spacy

from captiond.processes.box import missing_parts
from tests.commands import command
from tests.patience import PATIENCE
from tests.tagging import add_german_words

COMMAND = [sys.executable, "-m", "captiond"]
CONFINED = "warn" if missing_parts() else "ok"  # image decoders, as this kernel can


def run(
    *arguments: str, stdin: bytes = b"", cwd: Path, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        env={**os.environ, **environ},
        timeout=PATIENCE,
    )


def rows(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.decode().splitlines()]


def test_captions_from_arguments(tmp_path: Path) -> None:
    done = run("tags", "a black cat on a sofa", "--max-number", "2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rows(done.stdout) == [
        {
            "caption": "a black cat on a sofa",
            "tags": ["black cat", "cat"],
            "tag_details": [
                {
                    "tag": "black cat",
                    "lemma": "cat",
                    "category": "animal",
                    "kind": "phrase",
                    "start": 2,
                    "end": 11,
                    "confidence": None,
                },
                {
                    "tag": "cat",
                    "lemma": "cat",
                    "category": "animal",
                    "kind": "noun",
                    "start": 8,
                    "end": 11,
                    "confidence": None,
                },
            ],
        }
    ]


def test_captions_from_a_file_and_from_a_pipe_keep_their_order(tmp_path: Path) -> None:
    captions = [f"a cat and {number} dogs" if number % 3 else "" for number in range(200)]
    text = "\n".join(captions).encode()
    (tmp_path / "captions.txt").write_bytes(text)
    from_file = run("tags", "--file", "captions.txt", cwd=tmp_path)
    from_pipe = run("tags", stdin=text, cwd=tmp_path)
    assert from_file.stdout == from_pipe.stdout
    assert [row["caption"] for row in rows(from_file.stdout)] == captions
    assert rows(from_file.stdout)[0]["tags"] == []


def test_odd_bytes_long_lines_and_right_to_left_text_are_tagged_as_any(tmp_path: Path) -> None:
    lines = [
        b"a caf\xe9 and a dog",
        b"a dog " * 20_000,
        "🐕 كلب a dog".encode(),
        b"a\x00\x1b[31m dog",
    ]
    done = run("tags", "--kinds", "noun", stdin=b"\n".join(lines), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    found = rows(done.stdout)
    assert len(found) == len(lines)
    assert all("dog" in row["tags"] for row in found)
    assert run("tags", os.fsdecode(b"a \xff dog"), cwd=tmp_path).returncode == 0


def test_settings_are_tried_by_flags_and_by_a_file(tmp_path: Path) -> None:
    add_german_words(spacy.blank("de")).to_disk(tmp_path / "german")
    (tmp_path / "captiond.toml").write_text(
        '[tags.pipelines]\nen = "captiond/english"\nde = "german"'
    )
    done = run("tags", "ein schwarzer Hund", "--language", "de", "--deny", "s*", cwd=tmp_path)
    assert [row["tags"] for row in rows(done.stdout)] == [["hund"]]
    (tmp_path / "synonyms.txt").write_text("automobile = car")
    done = run("tags", "a red automobile", "--synonyms", "synonyms.txt", cwd=tmp_path)
    assert [row["tags"] for row in rows(done.stdout)] == [["car", "red car"]]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--language", "fr"), 2, "command line: tags.language = 'fr': tags.pipelines has no"),
        (("--kinds", "verb"), 2, "tags.kinds = 'verb': must be 'phrase', 'noun'"),
        (("--categories", "fod"), 2, "tags.categories = 'fod': must be 'person'"),
        (("--synonyms", "none.txt"), 2, "tags.synonyms = none.txt: cannot be read"),
        (("--file", "none.txt"), 1, "none.txt: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_argument_is_reported(
    tmp_path: Path, arguments: tuple[str, ...], status: int, told: str
) -> None:
    done = command("tags", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_and_ctrl_c_end_it_quietly(tmp_path: Path) -> None:
    for how in ("leave", "interrupt"):
        running = subprocess.Popen(
            [*COMMAND, "tags"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdin.write(b"a cat on a mat\n" * 64)
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["tags"] == ["cat", "mat"]
        if how == "interrupt":
            running.send_signal(signal.SIGINT)
        else:
            running.stdout.close()
            running.stdin.write(b"a cat on a mat\n" * 64)
            running.stdin.flush()
        ended = running.wait(timeout=PATIENCE)
        assert ended == -(signal.SIGINT if how == "interrupt" else signal.SIGPIPE)
        assert running.stderr.read() == b""
        running.stdin.close()
        running.stdout.close()
        running.stderr.close()


# ---------------------------------------------------------------- captiond check


def test_a_good_installation_passes_the_check(tmp_path: Path) -> None:
    (tmp_path / "captiond.toml").write_text('[model]\nname = "captiond/scenes"')
    done = run("check", "--port", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    *lines, last = done.stdout.decode().splitlines()
    good = ["ok"] * 4
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", CONFINED, *good]
    assert last == "ready: captiond can write captions and tags with captiond/scenes"
    assert b"data folder: data will be created at the first start" in done.stdout
    assert not (tmp_path / "data").exists()


def test_each_wrong_part_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "synonyms.txt").write_text("nonsense")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "meta.json").write_text("{}")
    (tmp_path / "captiond.toml").write_text(
        """
        [data]
        dir = "file"
        [model]
        name = "somebody/a-model"
        fallback = "captiond/scenes"
        [tags]
        synonyms = "synonyms.txt"
        [tags.pipelines]
        en = "captiond/english"
        de = "de_nothing_sm"
        fr = "broken"
        """
    )
    done = command("check", "--port", "0", cwd=tmp_path)
    *lines, last = done.stdout.splitlines()
    told = dict(line.split(": ", 1) for line in lines)
    assert done.returncode == 1
    assert [part.split(maxsplit=1) for part in told] == [
        ["ok", "address"],
        ["FAIL", "data folder"],
        ["ok", "database"],
        [CONFINED, "image decoders"],
        ["ok", "device"],
        ["warn", "model"],
        ["ok", "fallback model"],
        ["FAIL", "tag synonyms"],
        ["ok", "tag pipeline en"],
        ["FAIL", "tag pipeline de"],
        ["FAIL", "tag pipeline fr"],
    ]
    assert last == (
        "not ready: repair what is marked FAIL "
        "(data folder, tag synonyms, tag pipeline de, tag pipeline fr)"
    )
    assert "captiond pull somebody/a-model" in told["warn  model"]
    assert "line 1" in told["FAIL  tag synonyms"]
    assert f"{sys.executable} -m spacy download de_nothing_sm" in told["FAIL  tag pipeline de"]
    assert "cannot be loaded" in told["FAIL  tag pipeline fr"]


def test_a_wrong_setting_is_reported_before_any_part(tmp_path: Path) -> None:
    done = command("check", cwd=tmp_path, CAPTIOND_TAGS__MIN_LENGTH="0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "environment: CAPTIOND_TAGS__MIN_LENGTH = '0'" in done.stderr

"""Text files that people write may begin with a byte order mark, as some editors leave it."""

import json
import os
from codecs import BOM_UTF8, BOM_UTF16_LE
from pathlib import Path

import pytest

from captiond.cli.calibrate_command import examples_of
from captiond.cli.captioning.service_flags import service_key
from captiond.cli.tags_command import lines
from captiond.errors import SettingsError
from captiond.notation.linefiles import LineFile
from captiond.settings.keyfiles import read_keys
from captiond.settings.sources import KEY_VARIABLE, load_settings
from captiond.spool.access_keys import read_profile

SECRET = "k" * 40


def marked(path: Path, text: str) -> Path:
    path.write_bytes(BOM_UTF8 + text.replace("\n", "\r\n").encode())
    return path


def test_settings(tmp_path: Path) -> None:
    file = marked(tmp_path / "captiond.toml", "[server]\nport = 8123\n")
    assert load_settings(file=file, environ={}, flags={}).server.port == 8123


def test_settings_in_utf_16_are_named(tmp_path: Path) -> None:
    file = tmp_path / "captiond.toml"
    file.write_bytes(BOM_UTF16_LE + "[server]\n".encode("utf-16-le"))
    with pytest.raises(SettingsError, match=r"captiond\.toml: not UTF-8; save it in this"):
        load_settings(file=file, environ={}, flags={})


def test_keys(tmp_path: Path) -> None:
    (key,) = read_keys(marked(tmp_path / "keys.toml", f'[a]\nkey = "{SECRET}"\n'))
    assert key.name == "a"
    assert service_key(marked(tmp_path / "key", f"{SECRET}\n")) == SECRET


@pytest.mark.parametrize("key", ["\u043a\u043b\u044e\u0447", "a\nb", "a\0"])
def test_a_key_that_no_header_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(SettingsError, match="key: this is no key"):
        service_key(tmp_path / "key")
    if "\0" not in key:
        monkeypatch.setenv(KEY_VARIABLE, key)
        with pytest.raises(SettingsError, match=f"{KEY_VARIABLE}: this is no key"):
            service_key(None)


def test_credentials(tmp_path: Path) -> None:
    text = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
    profile = read_profile(marked(tmp_path / "credentials", text))
    assert (profile["aws_access_key_id"], profile["aws_secret_access_key"]) == ("a", "b")


def test_files_with_an_entry_on_each_line(tmp_path: Path) -> None:
    file = marked(tmp_path / "tags.txt", "cat\nsofa\n")
    assert list(LineFile(file).commented_lines()) == [(1, "cat"), (2, "sofa")]
    assert list(lines(file)) == ["cat", "sofa"]


def test_captions_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = marked(tmp_path / "captions.txt", "a cat\n")
    reader, kept = os.open(file, os.O_RDONLY), os.dup(0)
    os.dup2(reader, 0)
    try:
        assert list(lines(Path("-"))) == ["a cat"]
    finally:
        os.dup2(kept, 0)
        os.close(reader)
        os.close(kept)


def test_examples_of_a_calibration(tmp_path: Path) -> None:
    result = {"image_path": "cat.jpg", "tag_details": [{"tag": "cat", "score": 1.0}]}
    results = marked(tmp_path / "results.jsonl", json.dumps(result) + "\n")
    (example,) = examples_of(results, marked(tmp_path / "right.txt", "cat.jpg = cat\n"))
    assert example.right == {"cat"}

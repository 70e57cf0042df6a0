"""Every setting can come from the environment, in each form that it can be written in."""

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import SecretStr

from captiond.errors import SettingsError
from captiond.notation.textvalues import in_home
from captiond.settings.config import Settings
from captiond.settings.foreign_variables import REPLACED, without_effect
from captiond.settings.sources import load_settings, sections

KEY = "sha256:" + 64 * "0"
SECRET = "whsec_" + "QUJD" * 8
# A value of each setting that is not its default, where it does not follow from the type.
VALUES: dict[str, Any] = {
    "server.host": "::1",
    "server.root_path": "/captions",
    "server.hosts": ["a.example.com", "b.example.com"],
    "server.cors_origins": ["https://a.example.com", "https://b.example.com"],
    "server.trusted_proxies": ["10.0.0.1", "192.168.0.0/16"],
    "data.dir": "/srv/data",
    "database.url": "postgresql+psycopg://captiond:secret@db.example.com:5433/captiond",
    "model.cache": "/srv/models",
    "model.device": "cpu,cpu",
    "images.root": "/srv/photos",
    "images.types": ["png", "jpeg"],
    "tags.pipelines": {"en": "captiond/english", "de": "de_core_news_sm"},
    "tags.language": "en",
    "tags.kinds": ["noun", "adjective"],
    "tags.categories": ["person", "animal"],
    "tags.deny": ["cat*", "dog"],
    "tags.allow": ["cat*", "dog"],
    "tags.synonyms": "/srv/synonyms.txt",
    "tags.vocabulary": "/srv/tags.txt",
    "tags.vocabulary_template": "a picture of a {tag}",
    "tags.vocabulary_threshold": 2.5,
    "translation.models": {"de": "/srv/opus-mt-en-de", "pt-br": "example/en-pt"},
    "translation.language": "en",
    "translation.dictionaries": {"de": "/srv/de.tsv"},
    "keys.file": "/srv/keys.toml",
    "keys.named": {"a": {"key": KEY, "scopes": ["read", "caption"]}, "b": KEY},
    "webhooks.allow": ["a.example.com", "[::1]:80"],
    "webhooks.secret": SECRET,
    "uploads.url": "s3://bucket/prefix",
    "uploads.endpoint": "https://minio.example.com",
    "uploads.credentials": "/run/secrets/aws",
    "uploads.ca": "/etc/ssl/ca.pem",
    "uploads.secret_access_key": SECRET,
    "dialects.models": ["llava", "gpt-4o-mini"],
}
# Their other values need other settings.
LANGUAGES = {"tags.language", "translation.language"}
BYTES = 768 * 1024 * 1024  # within the bounds of every size in bytes


def every_setting() -> Iterator[tuple[str, Any]]:
    """Yield the name and the type of each setting."""
    for section, model in sections().items():
        for key, info in model.model_fields.items():
            yield f"{section}.{key}", info.annotation


NAMES = [name for name, _ in every_setting()]
TYPES = dict(every_setting())


def default(name: str) -> Any:
    section, key = name.split(".")
    value = getattr(getattr(Settings(), section), key)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def other_value(name: str) -> Any:
    """Return a value that is not the default."""
    if name in VALUES:
        return VALUES[name]
    usual, kind = default(name), TYPES[name]
    if get_origin(kind) is Literal:
        return next(choice for choice in choices(kind) if choice != usual)
    if isinstance(usual, bool):
        return not usual
    if isinstance(usual, int | float):
        return BYTES if name.endswith(("_bytes", "_memory")) else a_little_more(name, usual)
    return "other"


def a_little_more(name: str, number: float) -> float:
    """Return a number above this one, within the bounds of a setting."""
    section, key = name.split(".")
    bounds = [
        each.le for each in sections()[section].model_fields[key].metadata if hasattr(each, "le")
    ]
    return number + 1 if all(number + 1 <= most for most in bounds) else (number + min(bounds)) / 2


def choices(kind: Any) -> list[str]:
    return [each for arg in get_args(kind) for each in (choices(arg) or [arg])]


def from_variable(name: str, text: str) -> Any:
    """Return the value of a setting whose variable has this text."""
    section, key = name.split(".")
    environ = {f"CAPTIOND_{section}__{key}".upper(): text}
    value = getattr(getattr(load_settings(file=None, environ=environ, flags={}), section), key)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def from_file(name: str, value: Any) -> Any:
    """Return the value of a setting as a file gives it, with its real type."""
    section, key = name.split(".")
    settings = Settings.model_validate({section: {key: value}})
    given = getattr(getattr(settings, section), key)
    return given.get_secret_value() if isinstance(given, SecretStr) else given


def plain(value: Any) -> str:
    """Return a value as a person writes it in a variable."""
    if isinstance(value, dict):
        return ",".join(f"{key}={entry}" for key, entry in value.items())
    return ",".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_variable(name: str) -> None:
    value = other_value(name)
    given = from_file(name, value)
    assert given != default(name) or name in LANGUAGES
    if isinstance(value, list | dict):
        assert from_variable(name, json.dumps(value)) == given
    if name != "keys.named":  # its entries are tables themselves
        assert from_variable(name, plain(value)) == given


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nothing", ["", "  "])
def test_a_variable_without_a_value_is_not_set(name: str, nothing: str) -> None:
    """A compose file writes `CAPTIOND_SERVER__HOST: ${HOST:-}`: it must not open all addresses."""
    assert from_variable(name, nothing) == default(name)


def test_a_variable_without_a_value_leaves_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "captiond.toml"
    file.write_text("[server]\nhost = '10.0.0.1'\n[tags]\ndeny = ['cat']")
    environ = {"CAPTIOND_SERVER__HOST": "", "CAPTIOND_TAGS__DENY": "", "CAPTIOND_TYPO": ""}
    settings = load_settings(file=file, environ=environ, flags={})
    assert (settings.server.host, settings.tags.deny) == ("10.0.0.1", ("cat",))


def test_an_entry_of_a_table_may_have_no_value() -> None:
    environ = {"CAPTIOND_TAGS__PIPELINES__DE": ""}
    settings = load_settings(file=None, environ=environ, flags={})
    assert settings.tags.pipelines == {"en": "captiond/english"}


@pytest.mark.parametrize("name", [name for name in NAMES if get_origin(TYPES[name]) is Literal])
def test_a_choice_is_read_in_any_case(name: str) -> None:
    for choice in choices(TYPES[name]):
        assert from_variable(name, f" {choice.upper()} ") == choice
        assert from_file(name, choice.title()) == choice


def test_choices_in_lists_and_devices_are_read_in_any_case() -> None:
    assert from_variable("images.types", "JPEG, Png") == ("jpeg", "png")
    assert from_variable("model.device", "CUDA:0,cuda:1") == "cuda:0,cuda:1"
    kinds = from_variable("tags.kinds", "noun")
    assert all(isinstance(kind, Enum) for kind in kinds)


# ---------------------------------------------------------------- paths

PATHS = [
    "data.dir",
    "model.cache",
    "images.root",
    "tags.synonyms",
    "tags.vocabulary",
    "keys.file",
]
FOLDERS_OR_NAMES = ["model.name", "model.fallback", "model.matcher"]


@pytest.mark.parametrize("name", [*PATHS, *FOLDERS_OR_NAMES])
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", "/home/cara")
    assert str(from_variable(name, "~/captiond/x")) == "/home/cara/captiond/x"
    assert str(from_variable(name, "/srv/~x")) == "/srv/~x"


def test_a_tilde_in_a_pipeline_and_in_the_name_of_the_settings_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_variable("tags.pipelines", "en=~/en") == {"en": f"{tmp_path}/en"}
    (tmp_path / "my.toml").write_text("[server]\nport = 1")
    settings = load_settings(file=Path("~/my.toml"), environ={}, flags={})
    assert settings.server.port == 1


def test_a_tilde_without_a_home_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the name ~ would be created otherwise."""
    monkeypatch.setattr(Path, "home", raise_no_home)
    monkeypatch.setattr(Path, "expanduser", raise_no_home)
    for name in PATHS:
        with pytest.raises(SettingsError, match=r"~ stands for a home folder, but there is none"):
            from_variable(name, "~/data")
    with pytest.raises(SettingsError, match=r"^~/my\.toml: ~ stands for a home folder"):
        load_settings(file=Path("~/my.toml"), environ={}, flags={})
    assert in_home("/srv") == "/srv"


def raise_no_home(*_: object) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_path_with_a_nul_character_is_refused(tmp_path: Path) -> None:
    """TOML can write one, and functions of the file system raise a ValueError for it."""
    for name in [*PATHS, *FOLDERS_OR_NAMES]:
        section, key = name.split(".")
        file = tmp_path / "captiond.toml"
        file.write_text(f'[{section}]\n{key} = "a\\u0000b"')
        with pytest.raises(SettingsError, match=f"{key} = .* Path should have no NUL character"):
            load_settings(file=file, environ={}, flags={})


def test_an_empty_path_is_never_the_current_folder() -> None:
    """`[images] root = ""` would let clients name every file there."""
    for name in PATHS[1:]:
        assert from_file(name, "") is None
    with pytest.raises(SettingsError, match=r"data\.dir = '': Path should not be empty"):
        load_settings(file=None, environ={}, flags={"data": {"dir": ""}})
    with pytest.raises(SettingsError, match=r"server\.host = '': .* at least 1 character"):
        load_settings(file=None, environ={}, flags={"server": {"host": ""}})


# ---------------------------------------------------------------- variables of others

OF_KUBERNETES = {
    "CAPTIOND_SERVICE_HOST": "10.0.171.239",
    "CAPTIOND_SERVICE_PORT": "8000",
    "CAPTIOND_SERVICE_PORT_HTTP": "8000",
    "CAPTIOND_PORT": "tcp://10.0.171.239:8000",
    "CAPTIOND_PORT_8000_TCP": "tcp://10.0.171.239:8000",
    "CAPTIOND_PORT_8000_TCP_PROTO": "tcp",
    "CAPTIOND_PORT_8000_TCP_PORT": "8000",
    "CAPTIOND_PORT_8000_TCP_ADDR": "10.0.171.239",
    "CAPTIOND_GPU_SERVICE_HOST": "10.0.171.240",
    "CAPTIOND_GPU_PORT": "udp://10.0.171.240:1",
}


def test_variables_of_kubernetes_are_no_settings() -> None:
    assert load_settings(file=None, environ=OF_KUBERNETES, flags={}) == Settings()


@pytest.mark.parametrize("name", ["CAPTIOND_PORT", "CAPTIOND_SERVER_PORT", "CAPTIOND_HOST"])
def test_similar_variables_are_still_errors(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: there is no such setting"):
        load_settings(file=None, environ={name: "80"}, flags={})


def test_variables_of_the_replaced_service_are_named_with_those_of_captiond() -> None:
    environ = {"PORT": "80", "LOG_LEVEL": "INFO", "HOST": "", "MODEL_NAME": "x", "HOME": "/root"}
    own = {"CAPTIOND_MODEL__NAME": "x"}
    assert without_effect({**environ, **own}) == {
        "PORT": "CAPTIOND_SERVER__PORT",
        "LOG_LEVEL": "CAPTIOND_LOGS__LEVEL",
    }
    assert load_settings(file=None, environ=environ, flags={}) == Settings()


def test_each_variable_of_the_replaced_service_stands_for_a_setting() -> None:
    named = {f"CAPTIOND_{name.replace('.', '__')}".upper() for name in NAMES}
    assert set(REPLACED.values()) <= named

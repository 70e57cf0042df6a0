"""Settings: which source wins, and what a wrong one is told."""

from pathlib import Path

import pytest

from captiond.config import Settings, checked, layers_of, load_settings, origins
from captiond.errors import SettingsError


def write(folder: Path, text: str) -> Path:
    file = folder / "captiond.toml"
    file.write_text(text)
    return file


def load(
    file: Path | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, dict[str, object]] | None = None,
) -> Settings:
    return load_settings(file=file, environ=environ or {}, flags=flags or {})


def test_defaults_need_nothing() -> None:
    assert load() == Settings()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 1\nworkers = 2\nhost = '0.0.0.0'")
    settings = load(file, {"CAPTIOND_SERVER__PORT": "3", "CAPTIOND_SERVER__WORKERS": "4"}, {
        "server": {"port": 5, "workers": None}
    })  # fmt: skip
    assert (settings.server.port, settings.server.workers) == (5, 4)
    assert settings.server.host == "0.0.0.0"


def test_the_environment_gives_lists_with_commas() -> None:
    assert load(environ={"CAPTIOND_IMAGES__TYPES": "png, jpeg"}).images.types == ("png", "jpeg")


def test_the_environment_names_the_file_without_that_being_a_setting() -> None:
    assert load(environ={"CAPTIOND_CONFIG": "somewhere"}) == Settings()


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("[server]\nprot = 1", {}, "captiond.toml: server.prot: there is no such setting"),
        ("[sever]\nport = 1", {}, "captiond.toml: sever: there is no such setting"),
        ("[server]\nport = 'x'", {}, "captiond.toml: server.port = 'x': "),
        ("server = 3", {}, "captiond.toml: server = 3: "),
        ("", {"CAPTIOND_TYPO": "1"}, "environment: CAPTIOND_TYPO: there is no such setting"),
        ("", {"CAPTIOND_SERVER_PORT": "80"}, "CAPTIOND_SERVER_PORT: there is no such setting;"),
        ("", {"CAPTIOND_SERVER": "80"}, "environment: CAPTIOND_SERVER = '80': "),
        ("", {"CAPTIOND_SERVER__PORT": "-1"}, "environment: CAPTIOND_SERVER__PORT = '-1': "),
        ("[images]\ntypes = ['pdf']", {}, "captiond.toml: images.types = 'pdf': "),
    ],
)
def test_a_wrong_setting_is_told_with_source_key_and_value(
    tmp_path: Path, text: str, environ: dict[str, str], told: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), environ)
    assert told in str(caught.value)


def test_a_file_that_is_not_toml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"captiond\.toml: not valid TOML: .*line 1"):
        load(write(tmp_path, "port: 8000"))
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_the_sample_file_holds_every_default_but_the_fallback() -> None:
    sample = load(Path(__file__).parents[2] / "captiond.toml")
    assert sample.model.fallback == "captiond/scenes"
    assert sample.model_copy(update={"model": Settings().model}) == Settings()


def test_every_setting_has_its_origin(tmp_path: Path) -> None:
    file = write(tmp_path, "[server]\nport = 1\nworkers = 2")
    flags = {"server": {"port": 5}}
    found = {
        f"{origin.section}.{origin.key}": (origin.value, origin.source)
        for origin in origins(layers_of(file, {"CAPTIOND_LOGS__LEVEL": "debug"}, flags))
    }
    assert found["server.port"] == (5, "command line")
    assert found["server.workers"] == (2, str(file))
    assert found["logs.level"] == ("debug", "environment")
    assert found["server.host"] == ("127.0.0.1", "default")
    assert found["images.types"][0][0] == "jpeg"


def test_a_secret_stands_in_no_message(tmp_path: Path) -> None:
    secret = "whsec_" + "QUJD" * 8
    layers = layers_of(None, {"CAPTIOND_WEBHOOKS__SECRET": f"{secret} {secret}"}, {})
    assert secret not in str(origins(layers))
    assert secret not in repr(checked(layers))
    with pytest.raises(SettingsError, match=r"webhooks\.secret = \*\*\*: .*whsec_ and 24 to 64"):
        load(write(tmp_path, "[webhooks]\nsecret = 'hunter2'"))


def test_hosts_of_webhooks_are_hosts(tmp_path: Path) -> None:
    environ = {"CAPTIOND_WEBHOOKS__ALLOW": "a.example, [::1]:80"}
    assert load(environ=environ).webhooks.allow == ("a.example", "[::1]:80")
    assert load(environ={"CAPTIOND_WEBHOOKS__ALLOW": ""}).webhooks.allow == ()
    with pytest.raises(SettingsError, match=r"webhooks\.allow.*must be a host or host:port"):
        load(write(tmp_path, "[webhooks]\nallow = ['https://a.example']"))

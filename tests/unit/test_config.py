"""Settings: which source wins, and what a wrong one is told."""

from pathlib import Path

import pytest

from captiond.config import Settings, load_settings
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
    settings = load(file, {"CAPTIOND_SERVER_PORT": "3", "CAPTIOND_SERVER_WORKERS": "4"}, {
        "server": {"port": 5, "workers": None}
    })  # fmt: skip
    assert (settings.server.port, settings.server.workers) == (5, 4)
    assert settings.server.host == "0.0.0.0"


def test_the_environment_gives_lists_with_commas() -> None:
    assert load(environ={"CAPTIOND_IMAGES_TYPES": "png, jpeg"}).images.types == ("png", "jpeg")


def test_the_environment_gives_pipelines_as_pairs() -> None:
    environ = {
        "CAPTIOND_TAGS_PIPELINES": "en=captiond/english, de=de_core_news_sm",
        "CAPTIOND_TAGS_LANGUAGE": "de",
        "CAPTIOND_TAGS_DENY": "tennis*, cat",
    }
    tags = load(environ=environ).tags
    assert tags.pipelines == {"en": "captiond/english", "de": "de_core_news_sm"}
    assert tags.filter.deny == ("tennis*", "cat")


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
        ("", {"CAPTIOND_SERVER_PORT": "-1"}, "environment: CAPTIOND_SERVER_PORT = '-1': "),
        ("[images]\ntypes = ['pdf']", {}, "captiond.toml: images.types = 'pdf': "),
        ("[tags]\npipeline = 'x'", {}, "captiond.toml: tags.pipeline: there is no such setting"),
        ("[tags]\nkinds = ['verb']", {}, "captiond.toml: tags.kinds = 'verb': "),
        ("[tags]\nkinds = []", {}, "captiond.toml: tags.kinds = []: "),
        ("[tags]\nlanguage = 'de'", {}, "tags.language = 'de': tags.pipelines has none for it"),
        ("[tags.pipelines]\nEN = 'x'", {}, "captiond.toml: tags.pipelines.EN = 'EN': "),
        ("[tags.pipelines]\nen = 3", {}, "captiond.toml: tags.pipelines.en = 3: "),
        ("", {"CAPTIOND_TAGS_CATEGORIES": "fod"}, "environment: CAPTIOND_TAGS_CATEGORIES = 'fod'"),
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

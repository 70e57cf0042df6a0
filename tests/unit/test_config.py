"""Settings: which source wins, how lists and tables are written, what errors say."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from captiond.cli.arguments import parse_assignment
from captiond.cli.main import app
from captiond.errors import SettingsError
from captiond.keys import new_secret
from captiond.settings.client_settings import ClientSettings, KeyEntry
from captiond.settings.config import MIB, ImageSettings, ImageType, Settings
from captiond.settings.sources import checked, layers_of, load_settings, origins
from captiond.settings.upload_settings import UploadSettings


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


ENGLISH, GERMAN = "captiond/english", "de_core_news_sm"
BOTH = {"en": ENGLISH, "de": GERMAN}


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("png, jpeg", ("png", "jpeg")),
        ('["png", "jpeg"]', ("png", "jpeg")),
        (' [ "png" ] ', ("png",)),
        ("png", ("png",)),
    ],
)
def test_a_list_is_written_with_commas_or_as_json(text: str, items: tuple[str, ...]) -> None:
    assert load(environ={"CAPTIOND_IMAGES__TYPES": text}).images.types == items
    assert load(flags={"images": {"types": text}}).images.types == items


def test_an_empty_list_is_written_as_json(tmp_path: Path) -> None:
    file = write(tmp_path, "[tags]\ndeny = ['cat']")
    assert load(file, {"CAPTIOND_TAGS__DENY": "[]"}).tags.deny == ()
    for empty in ("", "[]"):
        assert load(file, flags={"tags": {"deny": empty}}).tags.deny == ()


@pytest.mark.parametrize(
    "text",
    [
        f"en={ENGLISH}, de={GERMAN}",
        f'{{"en": "{ENGLISH}", "de": "{GERMAN}"}}',
    ],
)
def test_a_table_is_written_as_pairs_or_as_json(text: str) -> None:
    assert load(environ={"CAPTIOND_TAGS__PIPELINES": text}).tags.pipelines == BOTH
    assert load(flags={"tags": {"pipelines": text}}).tags.pipelines == BOTH


@pytest.mark.parametrize(
    ("text", "pipelines"),
    [
        ("", {"en": ENGLISH, "de": "B"}),  # the default has en
        ("[tags.pipelines]\nen = 'A'", {"en": "A", "de": "B"}),
        ("[tags.pipelines]\nen = 'A'\nde = 'A'", {"en": "A", "de": "B"}),
        ("[tags]\npipelines = 'en=A'", {"en": "A", "de": "B"}),
    ],
)
def test_an_entry_of_a_table_is_added_to_those_of_the_source_below(
    tmp_path: Path, text: str, pipelines: dict[str, str]
) -> None:
    file = write(tmp_path, text)
    assert load(file, {"CAPTIOND_TAGS__PIPELINES__DE": "B"}).tags.pipelines == pipelines
    assert load(file, flags={"tags": {"pipelines.de": "B"}}).tags.pipelines == pipelines


def test_a_whole_table_replaces_that_of_the_source_below(tmp_path: Path) -> None:
    file = write(tmp_path, "[tags.pipelines]\nfr = 'A'\nen = 'A'")
    assert load(file).tags.pipelines == {"fr": "A", "en": "A"}
    assert load(file, {"CAPTIOND_TAGS__PIPELINES": "en=B"}).tags.pipelines == {"en": "B"}


def test_a_source_may_set_a_table_and_entries_of_it() -> None:
    environ = {"CAPTIOND_TAGS__PIPELINES__DE": "B", "CAPTIOND_TAGS__PIPELINES": "en=A,de=A"}
    flags: dict[str, dict[str, object]] = {"tags": {"pipelines.fr": "C"}}
    assert load(None, environ, flags).tags.pipelines == {"en": "A", "de": "B", "fr": "C"}


def test_a_host_in_brackets_is_no_json(tmp_path: Path) -> None:
    environ = {"CAPTIOND_WEBHOOKS__ALLOW": "[::1]:80"}
    assert load(environ=environ).webhooks.allow == ("[::1]:80",)
    environ = {"CAPTIOND_WEBHOOKS__ALLOW": '["a.example", "[::1]:80"]'}
    assert load(environ=environ).webhooks.allow == ("a.example", "[::1]:80")


def test_the_environment_names_the_file_without_that_being_a_setting() -> None:
    assert load(environ={"CAPTIOND_CONFIG": "somewhere"}) == Settings()


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
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
        ("[tags]\npipeline = 'x'", {}, "captiond.toml: tags.pipeline: there is no such setting"),
        ("[tags]\nkinds = ['verb']", {}, "captiond.toml: tags.kinds = 'verb': "),
        ("[tags]\nkinds = []", {}, "captiond.toml: tags.kinds = []: "),
        ("[tags]\nlanguage = 'de'", {}, "tags.language = 'de': tags.pipelines has no pipeline"),
        ("[tags.pipelines]\nEN = 'x'", {}, "captiond.toml: tags.pipelines.EN = 'EN': "),
        ("[tags.pipelines]\nen = 3", {}, "captiond.toml: tags.pipelines.en = 3: "),
        (
            "",
            {"CAPTIOND_TAGS__CATEGORIES": "fod"},
            "CAPTIOND_TAGS__CATEGORIES = 'fod'",
        ),
        # A default that another setting makes wrong is an error too.
        ("[tags.pipelines]\nde = 'x'", {}, "default: tags.language = 'en': tags.pipelines has no"),
        # Sections with a value and with keys, in both orders.
        ("", {"CAPTIOND_LOGS": "a", "CAPTIOND_LOGS__LEVEL": "info"}, "CAPTIOND_LOGS = 'a'"),
        ("", {"CAPTIOND_LOGS__LEVEL": "info", "CAPTIOND_LOGS": "a"}, "CAPTIOND_LOGS = 'a'"),
        # Tables: whole, and by entry.
        ("", {"CAPTIOND_TAGS__PIPELINES": "en"}, "CAPTIOND_TAGS__PIPELINES = 'en': must be"),
        ("", {"CAPTIOND_TAGS__PIPELINES": "{'en'"}, "CAPTIOND_TAGS__PIPELINES = \"{'en'\": must"),
        ("", {"CAPTIOND_TAGS__PIPELINES": "1x=a"}, "CAPTIOND_TAGS__PIPELINES = '1x': String"),
        ("", {"CAPTIOND_TAGS__PIPELINES": "{}"}, "CAPTIOND_TAGS__PIPELINES = {}: must have"),
        ("[tags.pipelines]\nde = ''", {}, "captiond.toml: tags.pipelines.de = '': String"),
        (
            "[model]\ndevice = 'gpu'",
            {},
            "model.device = 'gpu': must be auto, cpu, cuda",
        ),
        ("", {"CAPTIOND_TAGS__PIPELINES__1X": "a"}, "CAPTIOND_TAGS__PIPELINES__1X = '1x': String"),
        (
            "[tags]\npipelines = 3",
            {"CAPTIOND_TAGS__PIPELINES__DE": "x"},
            "captiond.toml: tags.pipelines = 3: ",
        ),
        (
            "[tags.pipelines]\nen = 3",
            {"CAPTIOND_TAGS__PIPELINES__DE": "x"},
            "captiond.toml: tags.pipelines.en = 3: ",
        ),
        ("tags = 3", {"CAPTIOND_TAGS__PIPELINES__DE": "x"}, "captiond.toml: tags = 3: "),
        # Entries of settings that are no tables.
        ("", {"CAPTIOND_SERVER__PORT__X": "1"}, "CAPTIOND_SERVER__PORT__X: there is no such"),
        ("", {"CAPTIOND_TAGS__DENY__0": "cat"}, "CAPTIOND_TAGS__DENY__0: there is no such setting"),
        ("", {"CAPTIOND_IMAGES__TYPES": '["png"'}, "CAPTIOND_IMAGES__TYPES = '[\"png\"': must"),
    ],
)
def test_an_error_names_the_source_the_key_and_the_value(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), environ)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("[server]\nprot = 1", {}, "no such setting; did you mean server.port?"),
        ("[modle]\nname = 'x'", {}, "modle: there is no such setting; did you mean model?"),
        ("[model]\nbeams = 3", {}, "model.beams: there is no such setting"),
        ("[generation]\nnum_beam = 3", {}, "did you mean generation.num_beams?"),
        ("[tags]\ndecoders = 3", {}, "did you mean images.decoders?"),
        ("", {"CAPTIOND_MODEL__PRECISON": "1"}, "did you mean CAPTIOND_MODEL__PRECISION?"),
        ("[server]\nzzz = 1", {}, "server.zzz: there is no such setting"),
        (f"[server]\n{'port' * 50} = 1", {}, "there is no such setting"),
        ("[server]\nport = 'x'", {}, "server.port = 'x': must be a whole number"),
        ("[server]\nport = 99999", {}, "server.port = 99999: must be at most 65535"),
        ("[cache]\nenabled = 'x'", {}, "cache.enabled = 'x': must be true or false"),
        ("[model]\nprecision = 'fp33'", {}, "'fp16', 'bf16', 'fp8' or 'int8'"),
        ("[images]\ntypes = []", {}, "images.types = []: must have at least 1 item"),
        ("[images]\ntypes = ['jpg']", {}, "'jpeg2000' or 'jxl'"),  # and nothing of a short list
    ],
)
def test_an_error_ends_with_what_helps(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), environ)
    assert str(caught.value).endswith(expected)


def test_an_error_names_the_entry_that_the_command_line_sets() -> None:
    with pytest.raises(SettingsError, match=r"^command line: tags\.pipelines\.de = '': "):
        load(flags={"tags": {"pipelines.de": ""}})
    with pytest.raises(SettingsError, match=r"^command line: server\.port\.x: there is no such"):
        load(flags={"server": {"port.x": "1"}})


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
    shown = {
        f"{origin.section}.{origin.key}": (origin.value, origin.source)
        for origin in origins(layers_of(file, {"CAPTIOND_LOGS__LEVEL": "debug"}, flags))
    }
    assert shown["server.port"] == (5, "command line")
    assert shown["server.workers"] == (2, str(file))
    assert shown["logs.level"] == ("debug", "environment")
    assert shown["server.host"] == ("127.0.0.1", "default")
    assert shown["images.types"][0][0] == "jpeg"
    assert shown["tags.pipelines"] == ({"en": ENGLISH}, "default")


def test_the_origin_of_a_table_names_that_of_each_entry(tmp_path: Path) -> None:
    file = write(tmp_path, "[tags.pipelines]\nen = 'A'\nde = 'A'")

    def source(environ: dict[str, str], flags: dict[str, dict[str, object]]) -> str:
        shown = origins(layers_of(file, environ, flags))
        return next(origin.source for origin in shown if origin.key == "pipelines")

    assert source({}, {}) == str(file)
    assert source({"CAPTIOND_TAGS__PIPELINES": "en=B"}, {}) == "environment"
    assert source({"CAPTIOND_TAGS__PIPELINES__DE": "B"}, {"tags": {"pipelines.fr": "C"}}) == (
        f"en: {file}, de: environment, fr: command line"
    )


def test_no_message_shows_a_secret(tmp_path: Path) -> None:
    secret = "whsec_" + "QUJD" * 8
    layers = layers_of(None, {"CAPTIOND_WEBHOOKS__SECRET": f"{secret} {secret}"}, {})
    assert secret not in str(origins(layers))
    assert secret not in repr(checked(layers))
    with pytest.raises(SettingsError, match=r"webhooks\.secret = \*\*\*: .*whsec_ and 24 to 64"):
        load(write(tmp_path, "[webhooks]\nsecret = 'hunter2'"))
    for text in ("webhooks = 'hunter2'", "[webhooks]\nsecret = ['hunter2']", "[[webhooks]]"):
        with pytest.raises(SettingsError) as caught:
            load(write(tmp_path, text), {"CAPTIOND_WEBHOOKS__TIMEOUT_SECONDS": "hunter"})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        load(environ={"CAPTIOND_WEBHOOKS": '{"secret": "hunter2"}'})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"--set webhooksecret=…: must be"):
        parse_assignment("webhooksecret=hunter2")


def test_hosts_of_webhooks_are_hosts(tmp_path: Path) -> None:
    environ = {"CAPTIOND_WEBHOOKS__ALLOW": "a.example, [::1]:80"}
    assert load(environ=environ).webhooks.allow == ("a.example", "[::1]:80")
    assert load(environ={"CAPTIOND_WEBHOOKS__ALLOW": ""}).webhooks.allow == ()
    with pytest.raises(SettingsError, match=r"webhooks\.allow.*must be a host or host:port"):
        load(write(tmp_path, "[webhooks]\nallow = ['https://a.example']"))


@pytest.mark.parametrize("name", ["heif", "jxl"])
def test_a_type_without_its_library_is_an_error_at_the_start(
    name: ImageType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, every image decoder would die as soon as it is started."""
    assert ImageSettings(types=("jpeg", name)).types == ("jpeg", name)
    monkeypatch.setattr("captiond.settings.config.find_spec", lambda library: None)
    with pytest.raises(ValidationError, match=re.escape(f"captiond[{name}]")):
        ImageSettings(types=("jpeg", name))
    ImageSettings()


def test_object_storage_without_its_library_is_an_error_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert UploadSettings(url="s3://bucket").url == "s3://bucket"
    monkeypatch.setattr("captiond.settings.upload_settings.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=re.escape("captiond[s3]")):
        UploadSettings(url="s3://bucket")
    UploadSettings()


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://my-bucket", "my-bucket", ""),
        ("s3://my.bucket//a/b/", "my.bucket", "a/b"),
        ("", "", ""),
    ],
)
def test_a_bucket_and_its_prefix(url: str, bucket: str, prefix: str) -> None:
    settings = UploadSettings(url=url)
    assert (settings.bucket, settings.prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    "url",
    ["/srv/spool", "s3://", "s3://A/b", "s3://key:secret@bucket", "gs://bucket", "s3://b?a=b"],
)
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must be s3://bucket or s3://bucket/prefix"):
        UploadSettings(url=url)


def test_no_message_shows_the_secret_of_the_object_storage(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"uploads\.secret_access_key") as error:
        load(write(tmp_path, "[uploads]\nsecret_access_key = ['hidden']"))
    assert "hidden" not in str(error.value)
    settings = load(environ={"CAPTIOND_UPLOADS__SECRET_ACCESS_KEY": "hidden"})
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize("size", [1, MIB - 1])
def test_a_limit_of_bytes_has_the_same_bounds_everywhere(size: int) -> None:
    """In the settings, in an entry of a key, and on the command line."""
    secret = new_secret()
    for fits in (0, MIB):
        assert ClientSettings(body_bytes=fits).body_bytes == fits
        assert KeyEntry(key=secret, body_bytes=fits).body_bytes == fits
    for section in (
        lambda: ClientSettings(body_bytes=size),
        lambda: KeyEntry(key=secret, body_bytes=size),
    ):
        with pytest.raises(ValidationError, match="at least 1048576"):
            section()
    ran = CliRunner().invoke(app, ["keys", "create", "k", "--print", "--body-bytes", str(size)])
    assert ran.exit_code == 2
    assert "1048576" in ran.output

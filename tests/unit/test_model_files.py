"""Model files that another user has downloaded: what cannot be read is named, with the cure."""

from pathlib import Path

import pytest

from captiond.captioners.files import fingerprint, in_cache, locate
from captiond.errors import ModelBroken, ModelMissing
from captiond.settings.config import DataSettings, Settings
from tests.unit.test_datafolder import as_nobody, as_root, let_others_pass

NAME = "someone/blip"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "blip"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
        (folder / name).chmod(0o644)
    folder.chmod(0o755)
    let_others_pass(folder)
    return folder


def located(model: Path) -> str:
    return as_nobody(lambda: str(locate(Settings(), str(model), download=False)))[0]


@as_root
def test_a_model_of_another_user_is_enough_if_it_can_be_read(model: Path) -> None:
    assert located(model) == ""


@as_root
@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_what_cannot_be_read_is_named(model: Path, part: str) -> None:
    path = model / part
    path.chmod(0o600)
    assert located(model) == (
        f"{model}: this user cannot read {path}; change its owner or its mode, for example with: "
        f"chmod -R a+rX {model}"
    )


@as_root
def test_a_folder_on_the_way_to_a_model_is_named(model: Path) -> None:
    model.parent.chmod(0o700)
    assert f"this user cannot read {model.parent}" in located(model)


@as_root
def test_a_download_of_another_user_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    """Otherwise the message would be that of the network, which may be all right."""
    settings = Settings(data=DataSettings(dir=tmp_path / "data"))
    folder = settings.model_cache / "models--someone--blip"
    (folder / "snapshots").mkdir(parents=True)
    for each in (folder, folder / "snapshots"):  # whatever the umask is
        each.chmod(0o755)
    let_others_pass(folder)
    check_missing(settings)  # the other user may not be able to read the hub's client
    assert as_nobody(lambda: check_missing(settings)) == ("", [])
    folder.chmod(0o700)
    message, _ = as_nobody(lambda: check_missing(settings))
    assert message.startswith(f"{NAME}: this user cannot read {folder}; ")


def check_missing(settings: Settings) -> None:
    assert in_cache(settings, NAME) is None


def test_a_model_that_is_not_there_is_missing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "no" / "such", Path("/proc/1/root/nowhere")):
        with pytest.raises(ModelMissing):
            locate(Settings(), str(folder), download=False)


@pytest.mark.parametrize("name", ["a" * 256, "/" + "a" * 256])
def test_a_name_that_is_too_long_for_a_file_is_missing(tmp_path: Path, name: str) -> None:
    settings = Settings(data=DataSettings(dir=tmp_path))
    with pytest.raises(ModelMissing):
        locate(settings, name, download=False)


def test_a_file_that_cannot_be_hashed_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    assert fingerprint(model)
    monkeypatch.setattr("captiond.captioners.files.file_digest", refuse)
    with pytest.raises(ModelBroken, match=r"config\.json: cannot be read: Input/output error"):
        fingerprint(model)


def test_a_relative_folder_is_found(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert locate(Settings(), "./blip", download=False) == Path("blip")
    assert locate(Settings(), "blip", download=False).samefile(model)

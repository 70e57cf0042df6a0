"""A captioner is chosen by the model_type of its checkpoint, through one table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captiond.captioners import files
from captiond.captioners.families import FAMILIES, load_comparison, uses_context
from captiond.captioners.files import fingerprint
from captiond.captioners.protocol import Capabilities, Placement
from captiond.errors import ModelBroken, SettingsError
from captiond.jobs import Generation
from captiond.settings.config import (
    DataSettings,
    ModelSettings,
    Settings,
)
from captiond.settings.option_settings import GenerationSettings
from captiond.worker.loading import Loaded, identify, load
from tests.toy import SIDE, ToyCaptioner, toy_family, write_toy

pytestmark = pytest.mark.usefixtures("loaded_pipelines")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of captioners with one more line."""
    monkeypatch.setitem(FAMILIES, "toy", toy_family())


def loaded(folder: Path, generation: GenerationSettings | None = None) -> Loaded:
    settings = Settings(
        data=DataSettings(dir=folder.parent),
        model=ModelSettings(name=str(folder), batch_size=3, threads=1),
        generation=generation or GenerationSettings(),
    )
    return load(identify(settings, "cpu"), settings, trial=True)


def test_a_second_captioner_is_one_line_in_the_table(tmp_path: Path) -> None:
    toy = loaded(write_toy(tmp_path / "toy"))
    assert isinstance(toy.captioner, ToyCaptioner)
    assert (toy.info.batch_size, toy.info.precision, toy.info.device) == (3, "fp32", "cpu")
    assert toy.pixels.shape == (3, SIDE, SIDE, 3)
    toy.pixels[1] = 255
    captions = toy.captioner.caption(toy.pixels, Generation())
    assert [best.text for (best,) in captions] == [
        "a dark image",
        "a bright image",
        "a dark image",
    ]


def test_a_captioner_that_can_uses_the_context(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    toy, known = loaded(folder), Generation(context="place: Lisbon")
    (caption,), *_ = toy.captioner.caption(toy.pixels, known)
    assert caption.text == "a dark image (place: Lisbon)"
    assert uses_context(folder)
    assert not uses_context(files.EMBEDDED["captiond/scenes"])
    assert not uses_context(tmp_path), "which has no model"


def test_a_family_says_of_the_context_what_its_captioners_say(tmp_path: Path) -> None:
    folders = {"blip": files.EMBEDDED["captiond/scenes"], "toy": write_toy(tmp_path / "toy")}
    can = {name: loaded(folder).captioner.capabilities for name, folder in folders.items()}
    assert {name: each.uses_context for name, each in FAMILIES.items()} == {
        name: each.context for name, each in can.items()
    }
    assert "context" in can["blip"].unsupported


def test_settings_that_a_captioner_cannot_serve_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="num_beams"):
        loaded(write_toy(tmp_path / "toy"), GenerationSettings(num_beams=2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "camera"}', "'camera'; captiond knows: blip, toy"),
        ("{}", "None; captiond knows: blip, toy"),
        ("[]", "None; captiond knows: blip, toy"),
        ("{", "cannot be read"),
    ],
)
def test_another_model_type_is_a_broken_model(tmp_path: Path, config: str, message: str) -> None:
    folder = write_toy(tmp_path / "toy")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelBroken, match=message):
        loaded(folder)


def test_a_family_without_a_comparison_cannot_be_measured(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    with pytest.raises(ModelBroken, match="cannot measure"):
        load_comparison(folder, Placement(torch.device("cpu"), "fp32"))


@pytest.mark.parametrize(
    ("generation", "capabilities", "missing"),
    [
        (Generation(), Capabilities(), None),
        (Generation(prompt="a"), Capabilities(beams=True), "prompt"),
        (Generation(num_beams=2), Capabilities(prompt=True), "num_beams"),
        (Generation(num_beams=3, num_captions=2), Capabilities(beams=True), "num_captions"),
        (Generation(vocabulary=("cat",)), Capabilities(prompt=True), "vocabulary"),
        (Generation(vocabulary=("cat",)), Capabilities(vocabulary=True), None),
        (Generation(rerank=True), Capabilities(vocabulary=True), "rerank"),
        (
            Generation("a", num_beams=3, num_captions=2),
            Capabilities(prompt=True, beams=True, several_captions=True),
            None,
        ),
    ],
)
def test_options_need_capabilities(
    generation: Generation, capabilities: Capabilities, missing: str | None
) -> None:
    assert capabilities.missing_for(generation) == missing


# Python then reads and writes text as ASCII.
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PRINT_TYPE = """
import sys
from pathlib import Path
from captiond.captioners.families import model_type_of
print(model_type_of(Path(sys.argv[1])))
"""


def test_a_checkpoint_is_read_as_utf8_whatever_the_locale(tmp_path: Path) -> None:
    config = '{"model_type": "blip", "description": "für Fotos"}'
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    printed = subprocess.check_output(
        [sys.executable, "-c", PRINT_TYPE, tmp_path], env=os.environ | ASCII_LOCALE, text=True
    )
    assert printed == "blip\n"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed during a test."""
    names: list[str] = []
    digest = files.file_digest

    def recorded(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr(files, "file_digest", recorded)
    return names


def test_a_file_is_hashed_again_only_after_a_change(tmp_path: Path, hashed: list[str]) -> None:
    folder, notes = write_toy(tmp_path / "toy"), tmp_path / "fingerprints.json"
    first = fingerprint(folder, notes)
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    hashed.clear()
    assert fingerprint(folder, notes) == first == fingerprint(folder)
    assert sorted(hashed) == ["config.json", "model.safetensors"], "only without notes"
    hashed.clear()
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert fingerprint(folder, notes) == first
    assert hashed == ["model.safetensors"]
    weights.write_bytes(b"other")
    assert fingerprint(folder, notes) != first

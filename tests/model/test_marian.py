"""Translation by a real Marian model, which is trained for these tests."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from captiond.captioners.files import fingerprint
from captiond.errors import ModelBroken
from captiond.settings.config import ModelSettings, Settings
from captiond.settings.option_settings import TranslationSettings
from captiond.translation.degenerate import is_degenerate
from captiond.translation.marian import MarianTranslator
from captiond.translation.pieces import END, PADDING, UNKNOWN, MarianPieces
from captiond.translation.translator import TOO_LONG, Sentence
from captiond.translation.translators import Translators
from tests.marian import scene, write_marian

CPU = torch.device("cpu")
SCENES = [scene(random.Random(number)) for number in range(10_000, 10_060)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_marian(tmp_path_factory.mktemp("marian") / "opus")


def loaded(folder: Path, beams: int = 1, language: str = "de") -> MarianTranslator:
    return MarianTranslator.load(folder, language, CPU, "fp32", beams)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_text_is_translated_in_a_batch_as_it_is_alone(folder: Path, beams: int) -> None:
    translator = loaded(folder, beams)
    texts = [english for english, _ in SCENES]
    together = translator.translate(texts)
    assert together == [translator.translate([text])[0] for text in texts]
    assert translator.translate(texts[::-1]) == together[::-1]


def test_the_model_translates_what_it_has_learned(folder: Path) -> None:
    known = [(english, german) for english, german in SCENES if "fish" not in english]
    found = loaded(folder).translate([english for english, _ in known])
    right = [each == Sentence(german) for each, (_, german) in zip(found, known, strict=True)]
    assert sum(right) >= 0.9 * len(known)


def test_a_stutter_is_noticed_in_the_search_of_a_real_model(folder: Path) -> None:
    text = "a red fish"
    (sentence,) = loaded(folder).translate([text])
    assert sentence.text.startswith("Fisch Fisch Fisch")
    assert is_degenerate(text, sentence)


def test_what_a_client_writes_is_text_and_no_command(folder: Path) -> None:
    """Names of special tokens, half a surrogate pair and unknown characters are pieces of text."""
    pieces = MarianPieces.load(folder, "de")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    special = {vocabulary[END], vocabulary[PADDING]}
    for text in (f"{END} a cat", f"{PADDING} {UNKNOWN}", "\ud800 猫", ""):
        ids = pieces.encode(text)
        assert not special & {*ids[:-1]}
        assert ids[-1] == vocabulary[END]
    assert loaded(folder).translate(["\ud800 a cat", "", "   "])


def test_a_model_with_a_vocabulary_for_each_language(folder: Path, tmp_path: Path) -> None:
    """Its decoder may have fewer tokens than its encoder."""
    other = write_marian(tmp_path / "opus")
    vocabulary = json.loads((other / "vocab.json").read_text())
    (other / "target_vocab.json").write_text(json.dumps(vocabulary))
    text = "a yellow sun"
    assert loaded(other).translate([text]) == loaded(folder).translate([text])
    config = json.loads((other / "config.json").read_text())
    config["decoder_vocab_size"] = len(vocabulary) - 1
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelBroken):
        loaded(other)


def test_ids_without_a_piece_have_no_text(folder: Path) -> None:
    pieces = MarianPieces.load(folder, "de")
    ids = pieces.encode("cat")[:-1]
    assert pieces.decode([pieces.target_size + 7, *ids, *pieces.never]) == pieces.decode(ids)


def test_a_text_that_is_too_long_has_no_translation_and_the_others_do(folder: Path) -> None:
    long = "a red car and " * 20
    found = loaded(folder).translate([long, "a yellow sun", long])
    assert found == [TOO_LONG, Sentence("Sonne gelb"), TOO_LONG]


# ---------------------------------------------------------------- broken models


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def overwritten(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def with_token(token: str) -> Callable[[Path], None]:
    """Add a token to the vocabulary, for which the model has no weights."""

    def change(folder: Path) -> None:
        vocabulary = json.loads((folder / "vocab.json").read_text())
        vocabulary[token] = len(vocabulary)
        (folder / "vocab.json").write_text(json.dumps(vocabulary))

    return change


def with_code(folder: Path) -> None:
    """Make the model one that knows several languages."""
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary[">>fra<<"] = vocabulary.pop(next(piece for piece in vocabulary if len(piece) == 1))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def fewer_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights = {name: each for name, each in weights.items() if "decoder.layers.0.fc1" not in name}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "another model": (overwritten("config.json", b'{"model_type": "blip"}'), "model_type 'blip'"),
    "no pieces": (without("source.spm"), "its vocabulary cannot be read"),
    "damaged pieces": (overwritten("target.spm", b"nothing"), "its vocabulary cannot be read"),
    "damaged vocabulary": (overwritten("vocab.json", b"{"), "its vocabulary cannot be read"),
    "no special tokens": (overwritten("vocab.json", b'{"a": 0}'), "vocabulary cannot be read"),
    "no weights": (without("model.safetensors"), "cannot be loaded"),
    "damaged weights": (overwritten("model.safetensors", b"x" * 100), "cannot be loaded"),
    "fewer weights": (fewer_weights, "is missing in the weights"),
    "too many tokens": (with_token("▁new"), "more tokens than the model"),
    "another language": (with_code, "the model has no language de; it has fra"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    damage, message = BROKEN[name]
    folder = write_marian(tmp_path / "opus")
    damage(folder)
    with pytest.raises(ModelBroken, match=message):
        loaded(folder)


def test_a_model_of_several_languages_is_told_which_one(tmp_path: Path) -> None:
    folder = write_marian(tmp_path / "opus")
    plain = MarianPieces.load(folder, "fr").encode("a cat")
    with_code(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert MarianPieces.load(folder, "fr").encode("a cat") == [vocabulary[">>fra<<"], *plain]


# ---------------------------------------------------------------- all languages of the settings


def settings(data: Path, **models: Path | str) -> Settings:
    return Settings(
        model=ModelSettings(cache=data, download=False),
        translation=TranslationSettings(models={code: str(each) for code, each in models.items()}),
    )


def test_a_model_that_does_not_work_is_no_obstacle_for_the_others(
    folder: Path, tmp_path: Path
) -> None:
    broken = write_marian(tmp_path / "broken")
    without("vocab.json")(broken)
    wanted = settings(tmp_path, de=folder, fr=broken, es="nobody/nothing")
    translators = Translators.find(wanted, download=False)
    assert set(translators.unavailable) == {"es"}
    assert "captiond pull nobody/nothing" in translators.unavailable["es"]
    assert translators.fingerprint("fr"), "whether it works is not known yet"
    translators.load(CPU, "fp32", 1)
    assert set(translators.unavailable) == {"es", "fr"}
    assert translators.fingerprint("fr") is translators.fingerprint("es") is None
    assert translators.translate(["a yellow sun"], "de") == [Sentence("Sonne gelb")]
    assert translators.translate(["a yellow sun"], "fr") == [None]


def test_the_fingerprint_has_all_that_a_translation_depends_on(
    folder: Path, tmp_path: Path
) -> None:
    other = write_marian(tmp_path / "other")
    assert fingerprint(other) == fingerprint(folder)
    (other / "target.spm").write_bytes((other / "target.spm").read_bytes() + b"\0")
    assert fingerprint(other) != fingerprint(folder)
    wanted = settings(tmp_path, de=folder)
    more_beams = wanted.translation.model_copy(update={"num_beams": 5})
    marks = {
        Translators.find(each, download=False).fingerprint("de")
        for each in (wanted, wanted.model_copy(update={"translation": more_beams}))
    }
    assert len(marks) == 2


class Fragile:
    """A translator that fails if it is given more than one text, or one with a cat."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def translate(self, texts: list[str]) -> list[Sentence]:
        if len(texts) > 1 or "cat" in texts[0]:
            raise self._error
        return [Sentence(texts[0].upper())]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("x"), RuntimeError("y"), IndexError("z")]
)
def test_a_failure_concerns_one_text_only(error: Exception) -> None:
    translators = Translators()
    translators._loaded["de"] = Fragile(error)  # type: ignore[assignment]
    found = translators.translate(["a dog", "a cat", "a bird"], "de")
    assert found == [Sentence("A DOG"), None, Sentence("A BIRD")]

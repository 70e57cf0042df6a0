"""captiond's BLIP and that of transformers: the same pixels give the same tokens."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.captioner import Blip, Normalization
from captiond.captioners.devices import pick_device
from captiond.captioners.files import EMBEDDED, fingerprint
from captiond.captioners.protocol import Placement
from captiond.decoding.decode import decode, set_up_pillow
from captiond.errors import ModelBroken
from captiond.jobs import Generation, SearchRules
from captiond.settings.config import ImageSettings
from tests.conftest import png

FOLDER = EMBEDDED["captiond/scenes"]
CPU = torch.device("cpu")


def load(folder: Path = FOLDER) -> Blip:
    return Blip.load(folder, Placement(CPU, "fp32"))


def texts(blip: Blip, pixels: "np.typing.NDArray[np.uint8]", beams: int = 1) -> list[str]:
    captions = blip.caption(pixels, Generation(num_beams=beams))
    return [best.text for (best,) in captions]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of many sizes and shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number in range(11):
        path = folder / f"{number}.png"
        path.write_bytes(png(number * 977, side=60 + 31 * number))
        paths.append(path)
    return paths


def pixels_of(blip: Blip, paths: list[Path]) -> "np.typing.NDArray[np.uint8]":
    set_up_pillow(ImageSettings())
    return np.stack([decode(path.open("rb"), blip.geometry, ImageSettings())[0] for path in paths])


def test_normalized_pixels_equal_the_processors_to_the_last_bit(files: list[Path]) -> None:
    processor = BlipImageProcessorPil.from_pretrained(FOLDER)
    normalize = Normalization(
        processor.rescale_factor, tuple(processor.image_mean), tuple(processor.image_std)
    )
    ours = normalize(torch.from_numpy(pixels_of(load(), files)))
    images: list[Image.Image] = [Image.open(path) for path in files]
    theirs = processor(images, return_tensors="pt")["pixel_values"]
    assert (ours - theirs).abs().max() == 0.0


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_captions_are_those_of_generate(files: list[Path], beams: int, size: int) -> None:
    blip = load()
    model = BlipForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32)
    processor = BlipImageProcessorPil.from_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    expected: list[str] = []
    for path in files:
        inputs = processor(Image.open(path), return_tensors="pt")
        tokens = model.generate(**inputs, num_beams=beams, max_new_tokens=20)
        expected += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    captions = []
    for begin in range(0, len(files), size):
        captions += texts(blip, pixels_of(blip, files[begin : begin + size]), beams)
    assert captions == expected


def test_pickled_weights_are_loaded_as_weights_only(tmp_path: Path, files: list[Path]) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    pixels = pixels_of(load(), files)
    assert texts(load(folder), pixels) == texts(load(), pixels)


class Malicious:
    """A pickle that touches a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("owned"),))


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelBroken, match="cannot be loaded as a BLIP model"):
        load(folder)
    assert not (tmp_path / "owned").exists()


def test_a_fingerprint_changes_with_any_file_that_makes_captions(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    assert fingerprint(folder) == fingerprint(FOLDER)
    (folder / "README.md").write_text("not one of them")
    assert fingerprint(folder) == fingerprint(FOLDER)
    (folder / "vocab.txt").write_text("[PAD]\n")
    assert fingerprint(folder) != fingerprint(FOLDER)


def test_a_prompt_begins_every_caption(files: list[Path]) -> None:
    blip = load()
    wanted = Generation(prompt="A blue", num_beams=3, num_captions=2, max_new_tokens=6)
    captions = blip.caption(pixels_of(blip, files), wanted)
    assert len(captions) == len(files)
    for found in captions:
        assert len(found) == 2
        assert all(caption.text.startswith("a blue") for caption in found)
        assert found[0].score > found[1].score


def test_special_tokens_in_a_prompt_are_text(files: list[Path]) -> None:
    """[SEP] would end the text that the caption continues."""
    blip, end = load(), 3
    generation = Generation(prompt="a [SEP] blue [PAD]")
    pixels = pixels_of(blip, files[:2])
    tokens = blip.search(torch.from_numpy(pixels), generation).tokens[0, 0].tolist()
    assert end not in tokens[: len(["[DEC]", "a", "[", "sep", "]", "blue", "[", "pad", "]"])]
    note = "prompt: the model does not know '[', 'SEP', ']', 'PAD'"
    assert [best.notes for (best,) in blip.caption(pixels, generation)] == [(note,)] * 2
    known = blip.caption(pixels, Generation(prompt="a blue"))
    assert [best.notes for (best,) in known] == [(), ()]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_caption_may_take_more_tokens_to_end(files: list[Path], beams: int) -> None:
    blip = load()
    pixels = pixels_of(blip, files)
    whole = blip.caption(pixels, Generation(num_beams=beams, max_new_tokens=40))
    assert all(best.ended for (best,) in whole)
    cut = blip.caption(pixels, Generation(num_beams=beams, max_new_tokens=3))
    assert not all(best.ended for (best,) in cut)
    rules = SearchRules(finish_tokens=37)
    finished = blip.caption(pixels, Generation(num_beams=beams, max_new_tokens=3, rules=rules))
    assert finished == whole


def test_a_word_that_is_banned_is_not_written(files: list[Path]) -> None:
    blip, rules = load(), SearchRules(banned_words=("red", "to the l*", "日本"))
    pixels = pixels_of(blip, files)
    free = [best.text for (best,) in blip.caption(pixels, Generation())]
    assert any("red" in text or "to the l" in text for text in free)
    for beams in (1, 3):
        captions = blip.caption(pixels, Generation(num_beams=beams, rules=rules))
        assert not any("red" in each.text or "to the l" in each.text for (each,) in captions)


def test_a_gpu_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.cuda.set_device` needs the number of the device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = [str(pick_device(setting)) for setting in ("auto", "cuda", "cuda:1", "cpu")]
    assert found == ["cuda:0", "cuda:0", "cuda:1", "cpu"]
    with pytest.raises(ModelBroken, match="there are 2 GPUs"):
        pick_device("cuda:2")

"""captiond reads a plain checkpoint as transformers does, and leaves all others to transformers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.configuration_blip import BlipTextConfig, BlipVisionConfig
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.captioners.blip import by_transformers
from captiond.captioners.blip.captioner import Blip, read_checkpoint
from captiond.captioners.blip.checkpoint import PROCESSOR_DEFAULTS, Checkpoint, read_plain
from captiond.captioners.blip.weights import TEXT_DEFAULTS, VISION_DEFAULTS, shapes_of
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.jobs import Generation
from tests.patience import PATIENCE

FOLDER = EMBEDDED["captiond/scenes"]
HERE = Placement(torch.device("cpu"), "fp32")
WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
HEAD = "text_decoder.cls.predictions.decoder.weight"
# What the checkpoints of the model's authors have, which earlier versions of transformers wrote.
NEUTRAL: dict[str, Any] = {
    "bad_words_ids": None,
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
}
Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint."""
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


def plain(folder: Path) -> Checkpoint:
    checkpoint = read_plain(folder, HERE)
    assert checkpoint is not None
    return checkpoint


def attribute(model: Any, name: str) -> Tensor:
    """Return a weight by its name in a checkpoint."""
    for part in name.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    weight: Tensor = model
    return weight


def change_json(name: str, *path: str, **values: Any) -> Change:
    """Return a change of the dictionary at `path` in a JSON file."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / name).read_text())
        part = whole
        for key in path:
            part = part[key]
        part.update(values)
        (folder / name).write_text(json.dumps(whole))

    return change


def change_weights(change: Callable[[dict[str, Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights = {name: weight.clone() for name, weight in weights.items()}
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return changed


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def double_head(weights: dict[str, Tensor]) -> None:
    weights[HEAD] *= 2


def test_the_weights_are_those_that_transformers_reads() -> None:
    ours, theirs = plain(FOLDER), by_transformers.read_checkpoint(FOLDER, HERE)
    assert processing(ours.processor) == processing(theirs.processor)
    names = [name for name, _ in shapes_of(ours.model.config)]
    assert len(names) == 154
    for name in names:
        assert torch.equal(attribute(ours.model, name), attribute(theirs.model, name)), name


def test_the_defaults_are_those_of_transformers() -> None:
    vision, text = BlipVisionConfig(), BlipTextConfig()
    assert {name: getattr(vision, name) for name in VISION_DEFAULTS} == VISION_DEFAULTS
    assert {name: getattr(text, name) for name in TEXT_DEFAULTS} == TEXT_DEFAULTS
    assert processing(SimpleNamespace(**PROCESSOR_DEFAULTS)) == processing(BlipImageProcessorPil())


def processing(processor: Any) -> list[Any]:
    """Return how an image is scaled and normalized."""
    size = processor.size["height"], processor.size["width"], int(processor.resample)
    return [size, processor.rescale_factor, *processor.image_mean, *processor.image_std]


@pytest.mark.parametrize("text", ["", "a red", "A RÉD  circle, [SEP] [DEC] don't", "猫 unknown"])
def test_the_tokens_of_a_prompt_are_those_of_transformers(text: str) -> None:
    theirs = AutoTokenizer.from_pretrained(FOLDER)
    ids = plain(FOLDER).tokenizer.encode(text).ids
    assert ids == theirs(text).input_ids


def test_the_text_of_tokens_is_that_of_transformers() -> None:
    theirs, ours = AutoTokenizer.from_pretrained(FOLDER), plain(FOLDER).tokenizer
    size = ours.get_vocab_size()
    tokens = torch.randint(0, size + 3, (50, 12), generator=torch.Generator().manual_seed(1))
    assert ours.decode_batch(tokens.tolist()) == theirs.batch_decode(
        tokens, skip_special_tokens=True
    )


@pytest.mark.parametrize(
    "change",
    [
        change_json("config.json", "text_config", **NEUTRAL),
        change_weights(lambda weights: weights.pop(HEAD)),
        change_weights(lambda weights: weights.pop(WORDS)),
        change_weights(lambda weights: weights.update(position_ids=torch.arange(9))),
        change_json("tokenizer.json", truncation=None),
    ],
    ids=["old values", "no head", "no words", "an unused tensor", "the same"],
)
def test_a_plain_checkpoint_needs_no_transformers(folder: Path, change: Change) -> None:
    change(folder)
    ours, expected = plain(folder), plain(FOLDER)
    for name in (WORDS, HEAD):
        assert torch.equal(attribute(ours.model, name), attribute(expected.model, name))


@pytest.mark.parametrize(
    "change",
    [
        change_json("config.json", "text_config", length_penalty=2.0),
        change_json("config.json", "text_config", no_repeat_ngram_size=3),
        change_json("config.json", "vision_config", hidden_act="relu"),
        change_json("config.json", "vision_config", image_size=[64, 64]),
        change_json("tokenizer_config.json", tokenizer_class="RobertaTokenizer"),
        change_weights(double_head),
        remove("tokenizer.json"),
        remove("preprocessor_config.json"),
        remove("model.safetensors"),
    ],
    ids=[
        "length penalty",
        "repeated words",
        "activation",
        "not square",
        "tokenizer",
        "two heads",
        "no tokenizer.json",
        "no processor",
        "no safetensors",
    ],
)
def test_another_checkpoint_is_left_to_transformers(folder: Path, change: Change) -> None:
    change(folder)
    assert read_plain(folder, HERE) is None


def test_a_checkpoint_of_other_shapes_is_left_to_transformers(folder: Path) -> None:
    change_json("config.json", "text_config", num_hidden_layers=4)(folder)
    assert read_plain(folder, HERE) is None
    change_json("config.json", "text_config", num_hidden_layers=3, intermediate_size=99)(folder)
    assert read_plain(folder, HERE) is None


def test_an_activation_that_captiond_does_not_have_is_left_to_generate(folder: Path) -> None:
    change_json("config.json", "text_config", hidden_act="relu")(folder)
    assert read_checkpoint(folder, HERE).search is not None
    blip = Blip.load(folder, HERE)
    ((caption, *_),) = blip.caption(blip.allocate_pixels(1), Generation())
    assert caption.text


def test_without_a_plain_tokenizer_the_captions_are_the_same(folder: Path) -> None:
    remove("tokenizer.json")(folder)
    ours, theirs = Blip.load(FOLDER, HERE), Blip.load(folder, HERE)
    generation = Generation(prompt="a red")
    pixels = ours.allocate_pixels(2)
    pixels[1] = 200
    assert ours.caption(pixels, generation) == theirs.caption(pixels, generation)


MODEL_PROCESS = f"""
import sys
from pathlib import Path
import torch
import captiond.processes.start
import captiond.worker.process
from captiond.captioners.families import load_captioner
from captiond.captioners.protocol import Placement
from captiond.jobs import Generation
captioner = load_captioner(Path({str(FOLDER)!r}), Placement(torch.device("cpu"), "fp32"))
captioner.caption(captioner.allocate_pixels(1), Generation())
unneeded = {{"rich", "spacy.cli", "sqlalchemy.dialects.postgresql", "sympy", "torch._dynamo",
            "transformers"}}
print([name for name in sorted(unneeded) if sys.modules.get(name)])
"""


def test_a_model_process_imports_only_what_it_needs() -> None:
    """The import of transformers takes longer than that of torch."""
    command = [sys.executable, "-c", MODEL_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]"


LOAD_AND_LIST_MAPS = """
import sys
from pathlib import Path
import torch
from captiond.captioners.blip.captioner import Blip
from captiond.captioners.protocol import Placement
captioner = Blip.load(Path(sys.argv[1]), Placement(torch.device("cpu"), sys.argv[2]))
print([line for line in open("/proc/self/maps") if "model.safetensors" in line])
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_loaded_model_does_not_keep_its_file_in_memory(folder: Path, precision: str) -> None:
    """It holds its weights once: laid out, not also as pages of the mapped file."""
    path = folder / "model.safetensors"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32  # so that nothing is converted
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path, {"format": "pt"})
    command = [sys.executable, "-c", LOAD_AND_LIST_MAPS, str(folder), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]"

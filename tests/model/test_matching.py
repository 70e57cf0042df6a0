"""Image-text matching gives the scores of transformers' `BlipForImageTextRetrieval`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForImageTextRetrieval

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.decoding.geometry import Pixels
from captiond.errors import ModelBroken
from captiond.jobs import Generation
from captiond.settings.config import Precision
from captiond.vocabulary import Template, Vocabulary, VocabularyTag
from tools.scenes.matching import new_matching_model, save_matching

SCENES = EMBEDDED["captiond/scenes"]
TEXTS = ("a red circle", "a cat", "a blue square to the left of a green tree", "fish", "")
PLACEMENT = Placement(torch.device("cpu"), "fp32")
Write = Callable[[Any], None]


def random_matching(folder: Path, change: Write = lambda model: None) -> Path:
    """Write a matching model in the official layout, with a head of random weights."""
    torch.manual_seed(3)
    model = new_matching_model(SCENES)
    model.itm_head.weight.data.normal_(0, 0.5)
    change(model)
    save_matching(model, folder)
    return folder


def other_vision(model: Any) -> None:
    for weight in model.vision_model.encoder.layers[1].parameters():
        weight.data.mul_(1.1)


@pytest.fixture(scope="module")
def beside_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_matching(tmp_path_factory.mktemp("matching"))


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@torch.inference_mode()
def transformers_scores(folder: Path, pixels: Pixels) -> torch.Tensor:
    model: Any = BlipForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = processor(list(pixels), do_resize=False, return_tensors="pt")["pixel_values"]
    texts = AutoTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="pt")
    rows = []
    for image in images:
        logits = model(pixel_values=image.expand(len(TEXTS), -1, -1, -1), **texts).itm_score
        rows.append(logits[:, 1] - logits[:, 0])
    return torch.stack(rows)


@torch.inference_mode()
def captiond_scores(blip: Blip, pixels: Pixels) -> torch.Tensor:
    assert blip._matching is not None
    tensor = torch.from_numpy(pixels)
    sequences = blip.search(tensor, Generation(max_new_tokens=2))
    return blip._matching.scores(tensor, sequences.features, [TEXTS] * len(pixels))


def pickled(folder: Path) -> None:
    """Replace the safetensors of a model by a pickle, which transformers reads."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(("kind", "shares"), [("same", True), ("other", False), ("pickle", False)])
def test_scores_are_those_of_transformers(
    kind: str, shares: bool, tmp_path: Path, pixels: Pixels
) -> None:
    folder = random_matching(tmp_path, other_vision if kind == "other" else lambda model: None)
    expected = transformers_scores(folder, pixels)
    if kind == "pickle":
        pickled(folder)
    blip = Blip.load(SCENES, replace(PLACEMENT, matcher=folder))
    assert blip._matching is not None
    assert blip._matching.shares_encoding is shares
    torch.testing.assert_close(captiond_scores(blip, pixels), expected, atol=1e-4, rtol=0)


def test_a_captioner_without_a_matching_head_is_refused(pixels: Pixels) -> None:
    with pytest.raises(ModelBroken, match="no image-text matching"):
        Blip.load(SCENES, replace(PLACEMENT, matcher=SCENES))
    assert (
        Blip.load(SCENES, PLACEMENT).capabilities.missing_for(Generation(rerank=True)) == "rerank"
    )


def test_captions_are_ordered_by_how_well_they_fit(beside_scenes: Path, pixels: Pixels) -> None:
    blip = Blip.load(SCENES, replace(PLACEMENT, matcher=beside_scenes))
    generation = Generation(num_beams=4, num_captions=4)
    plain = blip.caption(pixels, generation)
    ranked = blip.caption(pixels, replace(generation, rerank=True))
    assert plain != ranked
    assert blip._matching is not None
    with torch.inference_mode():
        tensor = torch.from_numpy(pixels)
        features = blip.search(tensor, generation).features
        for image, (before, after) in enumerate(zip(plain, ranked, strict=True)):
            assert sorted(each.text for each in before) == sorted(each.text for each in after)
            texts = [[each.text for each in after]]
            here = slice(image, image + 1)
            assert features is not None
            (row,) = blip._matching.scores(tensor[here], features[here], texts).tolist()
            assert row == sorted(row, reverse=True)


def test_tags_are_scored_by_matching(beside_scenes: Path, pixels: Pixels) -> None:
    blip = Blip.load(SCENES, replace(PLACEMENT, matcher=beside_scenes))
    tags = tuple(map(VocabularyTag, ("red circle", "cat", "orange star")))
    template = Template.parse("a {tag}")
    vocabulary = Vocabulary(tags, template, -50.0, "matching")
    captions = blip.caption(pixels, Generation(), vocabulary)
    texts = [template.filled(tag.text) for tag in tags]
    assert texts == ["a red circle", "a cat", "an orange star"]
    assert blip._matching is not None
    with torch.inference_mode():
        tensor = torch.from_numpy(pixels)
        features = blip.search(tensor, Generation()).features
        expected = blip._matching.scores(tensor, features, [texts] * 3)
    for (best,), row in zip(captions, expected.tolist(), strict=True):
        found = {scored.tag.text: scored.score for scored in best.scored}
        assert found == pytest.approx({t.text: s for t, s in zip(tags, row, strict=True)}, abs=1e-3)
        assert all(0 <= (scored.confidence or 0) <= 1 for scored in best.scored)
        assert all((scored.score > 0) == ((scored.confidence or 0) > 0.5) for scored in best.scored)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_give_nearly_the_same_scores(
    beside_scenes: Path, pixels: Pixels, precision: Precision
) -> None:
    exact = captiond_scores(Blip.load(SCENES, replace(PLACEMENT, matcher=beside_scenes)), pixels)
    placement = replace(PLACEMENT, precision=precision, matcher=beside_scenes)
    scores = captiond_scores(Blip.load(SCENES, placement), pixels)
    torch.testing.assert_close(scores, exact, atol=0.3, rtol=0.1)


def test_an_unknown_activation_is_refused(tmp_path: Path) -> None:
    folder = random_matching(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelBroken, match="gelu, relu"):
        Blip.load(SCENES, replace(PLACEMENT, matcher=folder))


def test_special_tokens_in_a_tag_are_text(beside_scenes: Path, pixels: Pixels) -> None:
    blip = Blip.load(SCENES, replace(PLACEMENT, matcher=beside_scenes))
    assert blip._matching is not None
    tensor = torch.from_numpy(pixels)
    with torch.inference_mode():
        features = blip.search(tensor, Generation()).features
        texts = [["a cat", "a cat [SEP]"]] * 3
        one, other = blip._matching.scores(tensor, features, texts).T
    assert not torch.allclose(one, other)

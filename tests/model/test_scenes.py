"""The shipped model captiond/scenes, loaded from its folder through transformers, as users do."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.auto.tokenization_auto import AutoTokenizer

import captiond
from tools.scenes.dataset import EMPTY, cells_of, draw_sample, open_picture, thing_class
from tools.scenes.evaluation import Captioner, evaluate, score
from tools.scenes.model import MAX_LENGTH, caption_ids, new_tokenizer
from tools.scenes.training import Recipe, learning_rate

FOLDER = Path(captiond.__file__).parent / "embedded" / "scenes"
DATA = Path(__file__).parents[1] / "data"
TRUTH: dict[str, str] = json.loads((DATA / "scenes.json").read_text())
UNSEEN_SEED = 987_654
FLOOR = 0.98  # share of unseen scenes captioned exactly; the model's card has the score of 2,000


@cache
def captioner() -> Captioner:
    return Captioner(FOLDER)


def test_unseen_scenes_are_captioned_exactly() -> None:
    exact, scenes = score(evaluate(FOLDER, UNSEEN_SEED, 300))["all"]
    assert scenes == 300
    assert exact / scenes >= FLOOR


@pytest.mark.parametrize("name", TRUTH)
def test_the_sample_pictures_are_captioned_exactly(name: str) -> None:
    picture = Image.open(DATA / name).convert("RGB")
    assert captioner()([picture]) == [TRUTH[name]]


def test_the_folder_is_small_and_complete() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 8e6
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "vocab.txt"):
        assert (FOLDER / name).is_file()


def test_the_card_says_that_it_knows_no_photographs() -> None:
    assert "knows no photographs" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_shipped_tokenizer_is_the_one_it_was_trained_with() -> None:
    shipped = AutoTokenizer.from_pretrained(FOLDER)
    assert shipped.get_vocab() == new_tokenizer().get_vocab()


def test_the_tokenizer_decodes_to_the_same_captions() -> None:
    texts = [draw_sample(UNSEEN_SEED, index).caption for index in range(100)]
    ids = caption_ids(new_tokenizer(), texts)
    assert ids.shape == (100, MAX_LENGTH)
    assert new_tokenizer().batch_decode(ids, skip_special_tokens=True) == texts


def test_drawing_depends_only_on_seed_and_index() -> None:
    first = draw_sample(5, 3)
    draw_sample(5, 4)
    again = draw_sample(5, 3)
    assert first == again
    assert draw_sample(6, 3).jpeg != first.jpeg


def test_pictures_vary_in_size() -> None:
    sizes = {open_picture(draw_sample(5, index).jpeg).size for index in range(20)}
    assert len(sizes) > 15


def test_the_cells_show_which_thing_covers_them() -> None:
    sample = draw_sample(5, 0, count=1)
    (thing,) = sample.scene.things
    cells = cells_of(sample.scene)
    assert cells[int(thing.y * len(cells)), int(thing.x * len(cells))] == thing_class(thing)
    assert set(np.unique(cells)) <= {EMPTY, thing_class(thing)}


def test_the_learning_rate_rises_and_falls_once() -> None:
    recipe = Recipe(steps=100)
    rates = [learning_rate(recipe, step) for step in range(100)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) <= recipe.rate

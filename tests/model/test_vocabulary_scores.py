"""Tags of a vocabulary have the likelihoods of transformers' model, and the best ones are found."""

from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip import tag_likelihood, token_trie
from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.tag_likelihood import SMOOTHING, TagLikelihood
from captiond.captioners.blip.tag_reading import TagReading, places_of
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.decoding.geometry import Pixels
from captiond.jobs import Generation
from captiond.settings.config import Precision
from captiond.vocabulary import MOST_TOKENS, Template, Vocabulary, VocabularyTag
from tests.model.test_graphs import Searcher
from tools.scenes.scene import HUES, NOUNS

DATA = Path(__file__).parents[1] / "data"
SCENES = EMBEDDED["captiond/scenes"]
PICTURES = {
    "boat_and_sun.png": {"red boat", "yellow sun"},
    "cloud_above_house.jpg": {"white cloud", "orange house"},
    "star_inside_circle.png": {"yellow star", "blue circle"},
    "moon_above_fish_and_apple.jpg": {"white moon", "orange fish", "green apple"},
    "black_cat.jpg": {"black cat"},
}
THINGS = tuple(f"{hue} {noun}" for hue in HUES for noun in NOUNS)
# Several depths, shared beginnings, both articles, and a tag that begins another one.
TAGS = ("red", "red boat", "red boat above a star", "orange", "orange fish", "star", "yellow sun")
TEMPLATE = Template.parse("a {tag}")


def vocabulary(*tags: str, threshold: float = 4.0, template: Template = TEMPLATE) -> Vocabulary:
    return Vocabulary(tuple(map(VocabularyTag, tags)), template, threshold)


def placement(precision: Precision = "fp32") -> Placement:
    return Placement(torch.device("cpu"), precision)


@pytest.fixture(scope="module")
def blip() -> Blip:
    return Blip.load(SCENES, placement())


@pytest.fixture(scope="module")
def pixels(blip: Blip) -> Pixels:
    size = blip.geometry.width, blip.geometry.height
    return np.stack(
        [
            np.asarray(
                Image.open(DATA / name).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            )
            for name in PICTURES
        ]
    )


class Reference:
    """transformers' model. The log-likelihood of a text is minus its loss for each token."""

    def __init__(self) -> None:
        self.model: Any = BlipForConditionalGeneration.from_pretrained(SCENES, dtype=torch.float32)
        self.model.train(False)
        self.model.text_decoder.label_smoothing = 0.0
        self.tokenizer = AutoTokenizer.from_pretrained(SCENES)
        self.processor = BlipImageProcessorPil.from_pretrained(SCENES)

    def features(self, pixels: Pixels) -> Tensor:
        inputs = self.processor(list(pixels), do_resize=False, return_tensors="pt")
        features: Tensor = self.model.vision_model(inputs["pixel_values"]).last_hidden_state
        return features

    def blank(self) -> Tensor:
        side = self.model.config.vision_config.image_size
        features: Tensor = self.model.vision_model(torch.zeros(1, 3, side, side)).last_hidden_state
        return features

    def likelihood(self, features: Tensor, beginning: list[int], text: str) -> float:
        """Return the log-likelihood of a text behind a beginning."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([[*beginning, *ids]])
        targets = torch.tensor([[-100] * len(beginning) + ids])
        loss = self.model.text_decoder(
            tokens, encoder_hidden_states=features[None], labels=targets, reduction="mean"
        ).loss
        return -float(loss) * len(ids)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def likelihood_of(blip: Blip) -> TagLikelihood:
    scorer = blip._scorer
    assert scorer is not None
    return scorer._likelihood


@torch.inference_mode()
def exact(blip: Blip, pixels: Pixels, tags: Vocabulary) -> Tensor:
    """Return all scores of the tags of a vocabulary."""
    sequences = blip.search(torch.from_numpy(pixels), Generation())
    assert sequences.features is not None
    texts = sequences.tokens[:, 0].tolist()
    numbers, scores = likelihood_of(blip).scores(sequences.features, texts, tags, None)
    assert numbers == list(range(len(tags.tags)))
    return scores


@pytest.mark.parametrize(
    "template", ["a {tag}", "yellow and a {tag}", "to the left of a {tag} and"]
)
@torch.inference_mode()
def test_likelihoods_are_those_of_transformers(
    blip: Blip, reference: Reference, pixels: Pixels, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_likelihood, "RANKS", 9)  # every place is tried to the end
    parsed = Template.parse(template)
    scores = exact(blip, pixels, vocabulary(*TAGS, template=parsed))
    captions = blip.search(torch.from_numpy(pixels), Generation()).tokens[:, 0].tolist()
    features, blank = reference.features(pixels), reference.blank()[0]
    ids = reference.tokenizer
    head = [ids.bos_token_id, *ids(parsed.before, add_special_tokens=False)["input_ids"]]
    articles = ids("a an", add_special_tokens=False)["input_ids"]
    for image, caption in enumerate(captions):
        beginnings = [head, *(caption[:n] for n in places_of(caption, head, articles, 99))]
        for number, tag in enumerate(TAGS):
            text = f"{parsed.word_before(tag)} {tag} {parsed.after}"
            best = max(
                reference.likelihood(features[image], beginning, text) for beginning in beginnings
            )
            about_blank = exp(reference.likelihood(blank, head, text)) + SMOOTHING
            expected = best - log(about_blank)
            assert scores[image, number].item() == pytest.approx(expected, abs=1e-3)


def test_the_things_of_a_scene_have_the_best_scores(blip: Blip, pixels: Pixels) -> None:
    captions = blip.caption(pixels, Generation(), vocabulary(*THINGS))
    for (best,), things in zip(captions, PICTURES.values(), strict=True):
        assert {scored.tag.text for scored in best.scored[: len(things)]} == things
        scores = [scored.score for scored in best.scored]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 4.0


def test_leaving_out_hopeless_tags_changes_no_result(blip: Blip, pixels: Pixels) -> None:
    tags = vocabulary(*THINGS, threshold=3.0)
    scores = exact(blip, pixels, tags)
    captions = blip.caption(pixels, Generation(), tags)
    for (best,), row in zip(captions, scores.tolist(), strict=True):
        expected = {tag: score for tag, score in zip(THINGS, row, strict=True) if score >= 3.0}
        found = {scored.tag.text: scored.score for scored in best.scored}
        assert found == pytest.approx(expected, abs=1e-3)


def test_the_most_promising_tags_are_read_if_not_all_can_be(
    blip: Blip, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    following = TagReading.following

    def counted(self: Any, nodes: Any, places: Tensor) -> Tensor:
        read.append(len(nodes.tokens))
        return following(self, nodes, places)

    monkeypatch.setattr(TagReading, "following", counted)
    tags = vocabulary(*THINGS, threshold=-40.0)
    blip.caption(pixels[:1], Generation(), tags)  # computes the blank image's scores
    everything, read[:] = sum(read), []
    monkeypatch.setattr(tag_likelihood, "MOST_NODES", 2)
    ((best,),) = blip.caption(pixels[:1], Generation(), tags)
    assert sum(read) <= 2 < everything
    assert {scored.tag.text for scored in best.scored[:2]} == PICTURES["boat_and_sun.png"]


def test_scores_do_not_depend_on_the_batch_nor_on_the_other_tags(
    blip: Blip, pixels: Pixels
) -> None:
    together = exact(blip, pixels, vocabulary(*THINGS))
    alone = torch.cat([exact(blip, image[None], vocabulary(*THINGS)) for image in pixels])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)
    few = exact(blip, pixels, vocabulary(*THINGS[5:9]))
    torch.testing.assert_close(together[:, 5:9], few, atol=1e-3, rtol=0)


def test_what_is_read_of_an_image_does_not_depend_on_the_batch(
    blip: Blip, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_likelihood, "MOST_NODES", 2)
    tags = vocabulary(*THINGS, threshold=-10.0)
    together = blip.caption(pixels, Generation(), tags)
    for image, (best,) in zip(pixels, together, strict=True):
        ((alone,),) = blip.caption(image[None], Generation(), tags)
        scores = {scored.tag.text: scored.score for scored in alone.scored}
        assert {scored.tag.text: scored.score for scored in best.scored} == pytest.approx(
            scores, abs=1e-3
        )


def test_a_tag_with_an_unknown_word_is_left_out(blip: Blip, pixels: Pixels) -> None:
    captions = blip.caption(
        pixels[:1], Generation(), vocabulary("zebra", "red boat", "red zebra", threshold=-50)
    )
    assert [scored.tag.text for scored in captions[0][0].scored] == ["red boat"]
    assert captions[0][0].notes == ()
    asked = Generation(vocabulary=("zebra", "red boat"))
    ((best,),) = blip.caption(pixels[:1], asked, vocabulary(*asked.vocabulary))
    reason = "too long, or with a word that the model does not know"
    assert best.notes == (f"vocabulary: {reason}: zebra",)
    captions = blip.caption(pixels[:1], Generation(), vocabulary("zebra", threshold=-50))
    assert captions[0][0].scored == ()


def test_a_sentence_is_no_tag(blip: Blip, pixels: Pixels) -> None:
    longest, longer = " red" * MOST_TOKENS, " red" * (MOST_TOKENS + 1)
    asked = Generation(vocabulary=(longest, longer))
    for template in (TEMPLATE, Template.parse("to the left of a {tag} and a red boat")):
        tags = vocabulary(*asked.vocabulary, threshold=-50, template=template)
        ((best,),) = blip.caption(pixels[:1], asked, tags)
        (note,) = best.notes
        assert note.endswith(f": {longer}")


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_dividing_the_tags_among_passes_changes_no_score(
    blip: Blip, pixels: Pixels, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    tags = vocabulary(
        *TAGS, *(f"red boat {word} a {noun}" for word in ("above", "inside") for noun in NOUNS)
    )
    whole = exact(blip, pixels, tags)
    monkeypatch.setattr(token_trie, "NODES_OF_A_PASS", nodes)
    _, trie = likelihood_of(blip).trie(tags.texts, TEMPLATE)
    assert trie is not None
    assert trie.longest_pass < nodes + trie.depth
    # A list of its own, as the model keeps the form of a list that it has read.
    divided = exact(blip, pixels, replace(tags, tags=tags.tags[::-1]))
    torch.testing.assert_close(divided.flip(1), whole, atol=1e-3, rtol=0)


def test_the_chosen_tags_may_fill_a_pass_better_than_all_tags_do(
    blip: Blip, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subtrees of 6, 4, 6, 4, 6 and 4 nodes make passes of at most 6 nodes; 4 and 4 are more."""
    monkeypatch.setattr(token_trie, "NODES_OF_A_PASS", 8)
    firsts = {"red": 5, "boat": 3, "green": 5, "star": 3, "blue": 5, "moon": 3}
    tags = tuple(
        VocabularyTag(f"{first} {noun} red", None, 60.0 if number == 5 else -50.0)
        for first, number in firsts.items()
        for noun in NOUNS[:number]
    )
    ((best,),) = blip.caption(pixels[:1], Generation(), Vocabulary(tags, TEMPLATE, 0.0))
    assert {scored.tag.text.split()[0] for scored in best.scored} == {"boat", "star", "moon"}


def test_a_tag_can_have_its_own_threshold(blip: Blip, pixels: Pixels) -> None:
    tags = vocabulary("red boat", "yellow sun")
    strict = replace(tags, tags=(replace(tags.tags[0], threshold=49.0), tags.tags[1]))
    captions = blip.caption(pixels[:1], Generation(), strict)
    assert [scored.tag.text for scored in captions[0][0].scored] == ["yellow sun"]


def test_several_captions_have_the_tags_once(blip: Blip, pixels: Pixels) -> None:
    generation = Generation(num_beams=3, num_captions=3)
    captions = blip.caption(pixels, generation, vocabulary(*THINGS))
    for (best, *others), things in zip(captions, PICTURES.values(), strict=True):
        assert things <= {scored.tag.text for scored in best.scored}
        assert all(other.scored == () for other in others)


def test_tags_change_no_caption(blip: Blip, pixels: Pixels) -> None:
    plain = blip.caption(pixels, Generation())
    with_tags = blip.caption(pixels, Generation(), vocabulary(*THINGS))
    assert [replace(best, scored=()) for (best,) in with_tags] == [best for (best,) in plain]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_in_other_precisions(pixels: Pixels, precision: Precision) -> None:
    captions = Blip.load(SCENES, placement(precision)).caption(
        pixels, Generation(), vocabulary(*THINGS)
    )
    for (best,), things in zip(captions, PICTURES.values(), strict=True):
        assert {scored.tag.text for scored in best.scored[: len(things)]} == things


def test_scores_between_captured_batches_change_nothing(
    blip: Blip, pixels: Pixels, reference: Reference
) -> None:
    """On a GPU, captions are decoded in fixed memory, part of which the scores use as well."""
    searcher = Searcher(reference.model)
    side = reference.model.config.vision_config.image_size
    begin = reference.tokenizer.bos_token_id
    tokenizer = reference.tokenizer.backend_tokenizer
    likelihood = TagLikelihood(searcher.forward, tokenizer, begin, torch.zeros(1, 3, side, side))
    tags = vocabulary(*TAGS)
    everything = exact(blip, pixels, tags)
    with torch.inference_mode():
        normalized = blip._normalize(torch.from_numpy(pixels))
        for images in (5, 2, 5, 1):
            chunk = normalized[:images]
            before = searcher(chunk, (), Generation())
            assert before.features is not None
            texts = before.tokens[:, 0].tolist()
            _, scores = likelihood.scores(before.features, texts, tags, None)
            torch.testing.assert_close(scores, everything[:images], atol=1e-3, rtol=0)
            assert torch.equal(searcher(chunk, (), Generation()).tokens, before.tokens)

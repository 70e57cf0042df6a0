"""What the two scorers of tags find on drawn scenes, and what they cost.

python -m tools.vocabulary_report                   quality of the likelihood, by captiond/scenes
python -m tools.vocabulary_report --matching DIR    and of the model of tools.train_matching
python -m tools.vocabulary_report --cost            seconds for 1,000 tags, in BLIP-base's shape

A scene has one to three things. The tags are all 240 pairs of a colour and a kind, such as "red
boat". Thresholds are calibrated on the first half of the scenes: the one with the greatest F1. All
other figures are of the second half.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.tag_likelihood import TagLikelihood
from captiond.captioners.blip.tag_scorer import CANDIDATES
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement
from captiond.jobs import Generation
from captiond.vocabulary import THRESHOLDS, Template, Vocabulary, VocabularyTag
from tools.scenes.dataset import draw_sample, open_picture
from tools.scenes.evaluation import EVALUATION_SEED
from tools.scenes.scene import HUES, NOUNS
from tools.vocabulary_cost import print_cost

Scores: TypeAlias = npt.NDArray[np.float64]  # [scenes, tags]
Truth: TypeAlias = npt.NDArray[np.bool_]  # [scenes, tags]
TAGS = tuple(f"{hue} {noun}" for hue in HUES for noun in NOUNS)
TEMPLATE = "a {tag}"  # "photo" is no word of captiond/scenes
BATCH = 50


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.vocabulary_report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scenes", type=int, default=400, help="how many scenes to draw")
    parser.add_argument("--matching", type=Path, help="the folder of a matching model")
    parser.add_argument("--cost", action="store_true", help="measure the cost instead")
    parser.add_argument("--images", type=int, default=8, help="the batch size of --cost")
    options = parser.parse_args(argv)
    if options.cost:
        print_cost(options.images)
    else:
        print_quality(options.scenes, options.matching)
    return 0


def print_quality(scenes: int, matching: Path | None) -> None:
    blip = Blip.load(
        EMBEDDED["captiond/scenes"],
        Placement(torch.device("cpu"), "fp32", matcher=matching),
    )
    samples = [draw_sample(EVALUATION_SEED, number) for number in range(scenes)]
    truth = np.array([[tag in present(sample.scene) for tag in TAGS] for sample in samples])
    size = blip.geometry.width, blip.geometry.height
    pixels = np.stack([np.asarray(open_picture(each.jpeg).resize(size, 3)) for each in samples])
    found = scores_of(blip, pixels)
    print(f"{scenes} scenes, {len(TAGS)} tags; {truth.sum() / scenes:.2f} fit a scene")
    for name, scores in found.items():
        print_row(name, scores, truth)


def present(scene: Any) -> set[str]:
    return {f"{thing.colour} {thing.kind}" for thing in scene.things}


@torch.inference_mode()
def scores_of(blip: Blip, pixels: npt.NDArray[np.uint8]) -> dict[str, Scores]:
    """Return the scores of each scorer."""
    parts: dict[str, list[npt.NDArray[np.float64]]] = {}
    for begin in range(0, len(pixels), BATCH):
        chunk = torch.from_numpy(pixels[begin : begin + BATCH])
        for name, scores in batch_scores(blip, chunk).items():
            parts.setdefault(name, []).append(scores.double().numpy())
    return {name: np.concatenate(of_batches) for name, of_batches in parts.items()}


def batch_scores(blip: Blip, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    scorer, matching = blip._scorer, blip._matching
    assert scorer is not None
    sequences = blip.search(pixels, Generation())
    assert sequences.features is not None
    texts = sequences.tokens[:, 0].tolist()
    vocabulary = Vocabulary(tuple(map(VocabularyTag, TAGS)), Template.parse(TEMPLATE), 0.0)
    likelihood, features = scorer._likelihood, sequences.features
    nothing: list[list[int]] = [[] for _ in texts]
    _, template_only = likelihood.scores(features, nothing, vocabulary, None)
    _, ratios = likelihood.scores(features, texts, vocabulary, None)
    smoothed = likelihood._texts(vocabulary).blank
    found = {
        "likelihood, template only": template_only,
        "likelihood, not smoothed": ratios + smoothed - blank_likelihoods(likelihood, vocabulary),
        "likelihood": ratios,
    }
    if matching is not None:
        filled = [vocabulary.template.filled(tag) for tag in TAGS]
        scores = matching.scores(pixels, features, [filled] * len(texts))
        likeliest = ratios.topk(CANDIDATES, dim=1).indices
        kept = torch.full_like(scores, -100.0).scatter(1, likeliest, scores.gather(1, likeliest))
        found |= {"matching, every tag": scores, f"matching, {CANDIDATES} likeliest": kept}
    return found


def blank_likelihoods(likelihood: TagLikelihood, vocabulary: Vocabulary) -> torch.Tensor:
    """Return the log-likelihoods of all tags about the blank image."""
    _, trie = likelihood.trie(vocabulary.texts, vocabulary.template)
    assert trie is not None
    features = likelihood._forward.encode(likelihood._blank_pixels)
    return likelihood.likelihoods(features, [[]], trie, vocabulary.template)[0]


def print_row(name: str, scores: Scores, truth: Truth) -> None:
    half = len(scores) // 2
    calibrated = best_threshold(scores[:half], truth[:half])
    default = THRESHOLDS["matching" if name.startswith("matching") else "likelihood"]
    scores, truth = scores[half:], truth[half:]
    print(f"{name:26} AUC {auc(scores, truth):.4f}", end="")
    for threshold in (calibrated, default):
        precision, recall = precision_recall(scores >= threshold, truth)
        print(f"  at {threshold:5.1f}: precision {precision:.3f} recall {recall:.3f}", end="")
    print()


def best_threshold(scores: Scores, truth: Truth) -> float:
    """Return the threshold with the greatest F1, rounded to tenths."""
    candidates: list[float] = np.arange(-30, 30, 0.1).round(1).tolist()
    return max(candidates, key=lambda least: f1(scores >= least, truth))


def precision_recall(given: Truth, truth: Truth) -> tuple[float, float]:
    right = float((given & truth).sum())
    return right / max(1, given.sum()), right / truth.sum()


def f1(given: Truth, truth: Truth) -> float:
    precision, recall = precision_recall(given, truth)
    return 2 * precision * recall / max(1e-9, precision + recall)


def auc(scores: Scores, truth: Truth) -> float:
    """Return how often a right tag has a greater score than a wrong one, ties counting half."""
    flat, right = scores.ravel(), truth.ravel()
    _, places, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]
    positive, negative = right.sum(), (~right).sum()
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


if __name__ == "__main__":
    sys.exit(main())

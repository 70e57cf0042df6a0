"""Which tags of a vocabulary an image has: by their likelihood, or by image-text matching."""

from collections.abc import Sequence
from math import exp

from torch import Tensor

from captiond.captioners.blip.image_matching import ImageTextMatching
from captiond.captioners.blip.tag_likelihood import TagLikelihood
from captiond.vocabulary import ScoredTag, Vocabulary

MOST_TAGS = 100  # of an image, the best ones, so that results stay small
# The matching model reads whole texts, which costs several times more than likelihoods do. So it
# scores only the tags with the greatest likelihood ratios.
CANDIDATES = 64
MOST_NAMED = 10  # tags in a note
ANY = -50.0  # nats; no image rules out a tag with such a score


class TagScorer:
    """Scores the tags of vocabularies for the captioned images of a batch."""

    def __init__(self, likelihood: TagLikelihood, matching: ImageTextMatching | None) -> None:
        self._likelihood, self._matching = likelihood, matching

    def notes(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Return a note on the tags that the model cannot score, if there are any."""
        unknown = self._likelihood.unknown(vocabulary)
        if not unknown:
            return ()
        some = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
        return (f"vocabulary: too long, or with a word that the model does not know: {some}",)

    def scored(
        self,
        pixels: Tensor,
        features: Tensor,
        captions: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
    ) -> list[tuple[ScoredTag, ...]]:
        """Return the tags that each image has, best first.

        `pixels` are uint8 [images, height, width, 3], `features` what the captions were decoded
        from, and `captions` the token ids of the best captions.
        """
        if vocabulary.scorer == "matching" and self._matching is not None:
            return self._by_matching(self._matching, pixels, features, captions, vocabulary)
        thresholds = vocabulary.thresholds
        numbers, scores = self._likelihood.scores(features, captions, vocabulary, thresholds)
        return [selected(vocabulary, numbers, row) for row in scores.tolist()]

    def _by_matching(
        self,
        matching: ImageTextMatching,
        pixels: Tensor,
        features: Tensor,
        captions: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
    ) -> list[tuple[ScoredTag, ...]]:
        any_score = [ANY] * len(vocabulary.tags)
        numbers, ratios = self._likelihood.scores(features, captions, vocabulary, any_score)
        if not numbers:
            return [()] * len(captions)
        likeliest = ratios.topk(min(CANDIDATES, len(numbers)), dim=1).indices.tolist()
        candidates = [[numbers[n] for n in row] for row in likeliest]
        texts = [
            [vocabulary.template.filled(vocabulary.tags[number].text) for number in row]
            for row in candidates
        ]
        scores = matching.scores(pixels, features, texts).tolist()
        return [
            selected(vocabulary, row, of_image, probable=True)
            for row, of_image in zip(candidates, scores, strict=True)
        ]


def selected(
    vocabulary: Vocabulary,
    numbers: Sequence[int],
    scores: Sequence[float],
    *,
    probable: bool = False,
) -> tuple[ScoredTag, ...]:
    """Return the tags with these numbers whose scores are at least their thresholds, best first.

    If scores are log-odds, they have probabilities, which are the tags' confidences.
    """
    thresholds = vocabulary.thresholds
    tags = [
        ScoredTag(vocabulary.tags[number], score, probability(score) if probable else None)
        for number, score in zip(numbers, scores, strict=True)
        if score >= thresholds[number]
    ]
    return tuple(sorted(tags, key=lambda tag: tag.score, reverse=True))[:MOST_TAGS]


def probability(log_odds: float) -> float:
    """Return the probability of log-odds."""
    return round(1 / (1 + exp(-log_odds)), 4)

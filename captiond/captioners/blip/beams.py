"""The beams of a batch of images: what runs, what has ended, and what may yet become better.

Ranks as transformers' beam search does with its defaults: by the mean log-probability, and an image
is done when its best running beam cannot beat the worst of those that have ended.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e9  # a log-probability that loses to every other


@dataclass(slots=True)
class Beams:
    """`texts` [images, beams, tokens] and the sums of their log-probabilities [images, beams];
    of those that have ended, `ended`, best first, the means. `open` [images]: may still improve.
    """

    texts: Tensor
    scores: Tensor
    ended: Tensor
    ended_scores: Tensor
    has_ended: Tensor
    open: Tensor

    @classmethod
    def start(cls, images: int, count: int, prompt: Tensor, new_tokens: int, pad: int) -> "Beams":
        """All beams at the prompt; all but the first lose, so that they do not all do the same."""
        device, begin = prompt.device, len(prompt)
        texts = torch.full((images, count, begin + new_tokens), pad, device=device)
        texts[:, :, :begin] = prompt
        scores = torch.full((images, count), NEVER, device=device)
        ended_scores = scores.clone()
        scores[:, 0] = 0
        return cls(
            texts,
            scores,
            texts.clone(),
            ended_scores,
            torch.zeros((images, count), dtype=torch.bool, device=device),
            torch.ones(images, dtype=torch.bool, device=device),
        )

    def of_images(self, images: Tensor) -> "Beams":
        return Beams(
            self.texts[images],
            self.scores[images],
            self.ended[images],
            self.ended_scores[images],
            self.has_ended[images],
            self.open[images],
        )

    def extend(self, likely: Tensor, place: int, begin: int, end: int, *, last: bool) -> Tensor:
        """Go on by one token, at `place`, as log-probabilities [images * beams, vocabulary] say.

        Twice as many candidates as beams are looked at, so that enough go on if the best all end.
        Returns the row each beam goes on from, [images * beams].
        """
        images, count = self.scores.shape
        vocabulary = likely.shape[-1]
        sums = (likely.view(images, count, -1) + self.scores[:, :, None]).flatten(1)
        sums, candidates = sums.topk(2 * count)
        parents, tokens = candidates // vocabulary, candidates % vocabulary
        texts = of_beams(self.texts, parents)
        texts[:, :, place] = tokens
        ends = tokens == end if not last else torch.ones_like(tokens, dtype=torch.bool)
        self._end(texts, sums / (place + 1 - begin), ends)
        self.scores, chosen = (sums + ends * NEVER).topk(count)
        self.texts = of_beams(texts, chosen)
        self._close(place + 1 - begin)
        first = torch.arange(images, device=likely.device)[:, None] * count
        return (parents.gather(1, chosen) + first).flatten()

    def _end(self, texts: Tensor, means: Tensor, ends: Tensor) -> None:
        """Put the candidates that end among those that have ended, if they are good enough."""
        count = self.scores.shape[1]
        ends = ends & self.open[:, None]
        ends[:, count:] = False
        scores = torch.cat((self.ended_scores, means + ~ends * NEVER), 1)
        self.ended_scores, best = scores.topk(count)
        self.ended = of_beams(torch.cat((self.ended, texts), 1), best)
        self.has_ended = torch.cat((self.has_ended, ends), 1).gather(1, best)

    def _close(self, length: int) -> None:
        worst = torch.where(self.has_ended, self.ended_scores.amin(1, keepdim=True), NEVER)
        self.open = self.open & (self.scores[:, :1] / length > worst).any(1)


def of_beams(texts: Tensor, beams: Tensor) -> Tensor:
    """For each image, the texts of those beams: [images, n, tokens] by [images, m] numbers."""
    return texts.gather(1, beams[:, :, None].expand(-1, -1, texts.shape[2]))

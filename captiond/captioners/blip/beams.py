"""The beams of a batch of images: texts that are open, and finished ones.

The ranking is that of transformers' beam search with its defaults: by the mean log-probability. An
image is finished when its best open beam cannot beat the worst of its finished ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e9  # a log-probability that is lower than every other


@dataclass(slots=True)
class Beams:
    """The open and the finished texts of a batch.

    `texts` [images, beams, tokens] are open; `scores` [images, beams] are the sums of their
    log-probabilities. `finished` are the texts that have ended, best first; `finished_scores` are
    the means of their log-probabilities. `open` [images] says which images may still improve.

    `token_scores` and `finished_token_scores` [images, beams, tokens] are the log-probabilities of
    each token of the texts, before a request's options have adjusted them.
    """

    texts: Tensor
    scores: Tensor
    token_scores: Tensor
    finished: Tensor
    finished_scores: Tensor
    finished_token_scores: Tensor
    is_finished: Tensor
    open: Tensor

    @classmethod
    def start(cls, images: int, count: int, prompt: Tensor, new_tokens: int, pad: int) -> "Beams":
        """Return beams that hold the prompt only.

        All beams of an image but the first have the score NEVER, so that they differ after the
        first step.
        """
        device, begin = prompt.device, len(prompt)
        texts = torch.full((images, count, begin + new_tokens), pad, device=device)
        texts[:, :, :begin] = prompt
        scores = torch.full((images, count), NEVER, device=device)
        finished_scores = scores.clone()
        scores[:, 0] = 0
        token_scores = torch.zeros(texts.shape, device=device)
        return cls(
            texts,
            scores,
            token_scores,
            texts.clone(),
            finished_scores,
            token_scores.clone(),
            torch.zeros((images, count), dtype=torch.bool, device=device),
            torch.ones(images, dtype=torch.bool, device=device),
        )

    def of_images(self, images: Tensor) -> "Beams":
        """Return the beams of these images only, given by their numbers."""
        return Beams(
            self.texts[images],
            self.scores[images],
            self.token_scores[images],
            self.finished[images],
            self.finished_scores[images],
            self.finished_token_scores[images],
            self.is_finished[images],
            self.open[images],
        )

    def extend(
        self,
        log_probabilities: Tensor,
        own: Tensor,
        position: int,
        begin: int,
        end: int,
        *,
        last: bool,
    ) -> Tensor:
        """Add one token at `position`, by log-probabilities [images * beams, vocabulary].

        `own` are the log-probabilities that the model has given, before they were adjusted.
        There are twice as many candidates as beams, so that enough texts stay open if the best ones
        all end. Return the row that each beam continues, [images * beams].
        """
        images, count = self.scores.shape
        vocabulary = log_probabilities.shape[-1]
        sums = (log_probabilities.view(images, count, -1) + self.scores[:, :, None]).flatten(1)
        sums, candidates = sums.topk(2 * count)
        parents, tokens = candidates // vocabulary, candidates % vocabulary
        texts = of_beams(self.texts, parents)
        texts[:, :, position] = tokens
        token_scores = of_beams(self.token_scores, parents)
        token_scores[:, :, position] = own.view(images, -1).gather(1, candidates)
        ends = tokens == end if not last else torch.ones_like(tokens, dtype=torch.bool)
        self._end(texts, sums / (position + 1 - begin), token_scores, ends)
        self.scores, chosen = (sums + ends * NEVER).topk(count)
        self.texts = of_beams(texts, chosen)
        self.token_scores = of_beams(token_scores, chosen)
        self._close(position + 1 - begin)
        first = torch.arange(images, device=log_probabilities.device)[:, None] * count
        return (parents.gather(1, chosen) + first).flatten()

    def _end(self, texts: Tensor, means: Tensor, token_scores: Tensor, ends: Tensor) -> None:
        """Add the candidates that end to the finished texts, if they are good enough."""
        count = self.scores.shape[1]
        ends = ends & self.open[:, None]
        ends[:, count:] = False
        scores = torch.cat((self.finished_scores, means + ~ends * NEVER), 1)
        self.finished_scores, best = scores.topk(count)
        self.finished = of_beams(torch.cat((self.finished, texts), 1), best)
        both = torch.cat((self.finished_token_scores, token_scores), 1)
        self.finished_token_scores = of_beams(both, best)
        self.is_finished = torch.cat((self.is_finished, ends), 1).gather(1, best)

    def _close(self, length: int) -> None:
        """Close the images that cannot improve any more."""
        worst = torch.where(self.is_finished, self.finished_scores.amin(1, keepdim=True), NEVER)
        self.open = self.open & (self.scores[:, :1] / length > worst).any(1)


def of_beams(texts: Tensor, beams: Tensor) -> Tensor:
    """Return texts, or their scores, [images, n, tokens] by beam numbers [images, m]."""
    return texts.gather(1, beams[:, :, None].expand(-1, -1, texts.shape[2]))

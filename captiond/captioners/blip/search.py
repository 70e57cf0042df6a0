"""From what the model saw to the likeliest captions: greedy search and beam search.

The tokens are those of transformers' `generate`, one by one (tests/model hold it): greedy search
adjusts the logits and takes the greatest; beam search adds adjusted log-probabilities up, and ranks
by their mean. What has ended leaves the batch.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from captiond.captioners.blip.beams import Beams
from captiond.jobs import Generation

LOOK_EVERY = 8  # steps on a GPU, whether all have ended: the host waits for the device there


@dataclass(frozen=True, slots=True)
class Tokens:
    """The special tokens of a model's text, by their numbers."""

    begin: int
    end: int
    pad: int


@dataclass(frozen=True, slots=True)
class Found:
    """Token ids [images, captions, length], prompt included, padded after their end; and each one's
    mean log-probability [images, captions], the end token's among them.
    """

    tokens: Tensor
    scores: Tensor


class Running(Protocol):
    """A batch on its way, as `forward.Running` explains it."""

    def step(self, tokens: Tensor) -> Tensor: ...

    def select_images(self, images: Tensor) -> None: ...

    def select_rows(self, rows: Tensor) -> None: ...


class Model(Protocol):
    """What a search needs: `forward.Forward`, or `graphs.Graphs` around one."""

    @property
    def positions(self) -> int: ...

    @property
    def keep(self) -> float:
        """Of a batch so much may still go on when the rest is dropped, which copies what stays."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def prefill(
        self, seen: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[Running, Tensor]: ...

    def forget(self) -> None:
        """Let go of memory that is kept for the next batch."""


class Search:
    """A search over a model's captions."""

    def __init__(self, model: Model, tokens: Tokens) -> None:
        self._model = model
        self._tokens = tokens

    def __call__(self, pixels: Tensor, prompt: Tensor, generation: Generation) -> Found:
        """Captions of normalized pixels [images, 3, height, width].

        All go on from the token ids of a prompt, the first of which counts for nothing: each text
        begins with the token that begins texts. What the model has no positions for is cut off.
        """
        prompt = prompt[: self._model.positions - 1].clone()
        prompt[0] = self._tokens.begin
        room = self._model.positions - len(prompt)
        generation = replace(generation, max_new_tokens=min(generation.max_new_tokens, room))
        find = self._greedy if generation.num_beams == 1 else self._beams
        try:
            return find(self._model.encode(pixels), prompt, generation)
        except torch.OutOfMemoryError:  # what was kept for a larger batch is in the way of a half
            self._model.forget()
            raise

    # ------------------------------------------------------------ greedy

    def _greedy(self, seen: Tensor, prompt: Tensor, generation: Generation) -> Found:
        most, begin, device = generation.max_new_tokens, len(prompt), seen.device
        running, logits = self._model.prefill(seen, prompt, beams=1, new_tokens=most)
        texts = torch.full((len(seen), begin + most), self._tokens.pad, device=device)
        texts[:, :begin] = prompt
        scores = torch.zeros(len(seen), device=device)
        lengths = torch.zeros(len(seen), device=device)
        rows = torch.arange(len(seen), device=device)  # of `texts`, that are in `running`
        open_ = torch.ones(len(seen), dtype=torch.bool, device=device)  # whether they still go on
        for place in range(begin, begin + most):
            logits = logits.float()
            newest = self._adjusted(logits, texts[rows, :place], generation, begin).argmax(-1)
            scores[rows] += torch.where(open_, log_probability(logits, newest), 0.0)
            lengths[rows] += open_
            newest = torch.where(open_, newest, self._tokens.pad)
            texts[rows, place] = newest
            open_ = open_ & (newest != self._tokens.end)
            if place + 1 == begin + most:
                break
            if looks(place - begin, device):
                going = open_.nonzero().flatten()
                if len(going) == 0:
                    break
                if len(going) <= self._model.keep * len(rows):
                    running.select_images(going)
                    newest, rows, open_ = newest[going], rows[going], open_[going]
            logits = running.step(newest[:, None])
        return Found(texts[:, None, : place + 1], (scores / lengths)[:, None])

    # ------------------------------------------------------------ beams

    def _beams(self, seen: Tensor, prompt: Tensor, generation: Generation) -> Found:
        most, begin, count = generation.max_new_tokens, len(prompt), generation.num_beams
        running, logits = self._model.prefill(seen, prompt, beams=count, new_tokens=most)
        logits = logits.repeat_interleave(count, 0)
        beams = Beams.start(len(seen), count, prompt, most, self._tokens.pad)
        texts, scores = beams.ended.clone(), beams.ended_scores.clone()
        rows = torch.arange(len(seen), device=seen.device)  # of `texts`, that are in `running`
        for place in range(begin, begin + most):
            so_far = beams.texts[:, :, :place].flatten(0, 1)
            likely = self._adjusted(logits.float().log_softmax(-1), so_far, generation, begin)
            last = place + 1 == begin + most
            parents = beams.extend(likely, place, begin, self._tokens.end, last=last)
            if last:
                break
            running.select_rows(parents)
            if looks(place - begin, seen.device):
                going = beams.open.nonzero().flatten()
                if len(going) == 0:
                    break
                if len(going) <= self._model.keep * len(rows):
                    texts[rows], scores[rows] = beams.ended, beams.ended_scores
                    running.select_images(going)
                    beams, rows = beams.of_images(going), rows[going]
            logits = running.step(beams.texts[:, :, place])
        texts[rows], scores[rows] = beams.ended, beams.ended_scores
        best = generation.num_captions
        return Found(texts[:, :best, : place + 1], scores[:, :best])

    def _adjusted(
        self, scores: Tensor, texts: Tensor, generation: Generation, begin: int
    ) -> Tensor:
        """The scores [rows, vocabulary] as the request wants them, after the texts [rows, tokens].

        What is there already is made less likely (Keskar et al., "CTRL", 2019), and the end is out
        of the question before `min_new_tokens`.
        """
        if generation.repetition_penalty != 1:
            there = scores.gather(1, texts)
            penalty = generation.repetition_penalty
            there = torch.where(there < 0, there * penalty, there / penalty)
            scores = scores.scatter(1, texts, there)
        if texts.shape[1] - begin < generation.min_new_tokens:
            scores = scores.clone()
            scores[:, self._tokens.end] = -torch.inf
        return scores


def looks(step: int, device: torch.device) -> bool:
    """Whether it is time to look who has ended."""
    return device.type == "cpu" or step % LOOK_EVERY == LOOK_EVERY - 1


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of one token of each row."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)

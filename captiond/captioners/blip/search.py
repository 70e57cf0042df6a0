"""From image features to the likeliest captions: greedy search and beam search.

The tokens are those of transformers' `generate`, one by one; tests/model checks it. Greedy search
adjusts the logits and takes the greatest. Beam search adds up adjusted log-probabilities and ranks
texts by their mean. Images whose captions have ended leave the batch.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from captiond.captioners.blip.beams import Beams
from captiond.captioners.logits import BannedTokens, LogitsProcessor
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.jobs import Generation, SearchRules

CHECK_EVERY = 8  # steps on a GPU: to check for ended texts, the host waits for the device


class DecoderState(Protocol):
    """The state of a batch while its captions are decoded; `forward.EagerState` explains it."""

    def step(self, tokens: Tensor) -> Tensor: ...

    def select_images(self, images: Tensor) -> None: ...

    def select_rows(self, rows: Tensor) -> None: ...


class EncoderDecoder(Protocol):
    """What a search needs of a model: `forward.Forward`, or `graphs.Graphs` around one."""

    @property
    def positions(self) -> int:
        """The most tokens that a text can have."""

    @property
    def shrink_below(self) -> float:
        """Drop ended images once at most this part of a batch is open; to drop copies the rest."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def prefill(
        self, features: Tensor, prompt: Tensor, *, beams: int, new_tokens: int
    ) -> tuple[DecoderState, Tensor]: ...

    def release_buffers(self) -> None:
        """Release memory that is kept for the next batch."""


class Search:
    """A search for a model's likeliest captions."""

    def __init__(self, model: EncoderDecoder, tokens: SpecialTokens) -> None:
        self._model = model
        self._tokens = tokens

    def __call__(
        self,
        pixels: Tensor,
        prompt: Tensor,
        generation: Generation,
        banned: BannedTokens | None = None,
    ) -> Sequences:
        """Return captions of normalized pixels [images, 3, height, width].

        All captions continue the token ids of a prompt. Its first id is ignored: each text begins
        with the token that begins texts. A text ends where the positions of the model end.
        """
        prompt = prompt[: self._model.positions - 1].clone()
        prompt[0] = self._tokens.begin
        longest = min(generation.longest, self._model.positions - len(prompt))
        generation = replace(generation, max_new_tokens=longest, rules=SearchRules())
        adjust = LogitsProcessor(generation, len(prompt), self._tokens.end, banned)
        search = self._greedy if generation.num_beams == 1 else self._beam_search
        try:
            features = self._model.encode(pixels)
            return replace(search(features, prompt, adjust), features=features)
        except torch.OutOfMemoryError:
            # Buffers of a larger batch would take the memory that half of this batch needs.
            self._model.release_buffers()
            raise

    # ------------------------------------------------------------ greedy

    def _greedy(self, features: Tensor, prompt: Tensor, adjust: LogitsProcessor) -> Sequences:
        most, begin, device = adjust.generation.max_new_tokens, len(prompt), features.device
        state, logits = self._model.prefill(features, prompt, beams=1, new_tokens=most)
        texts = torch.full((len(features), begin + most), self._tokens.pad, device=device)
        texts[:, :begin] = prompt
        scores = torch.zeros(texts.shape, device=device)
        lengths = torch.zeros(len(features), device=device)
        rows = torch.arange(len(features), device=device)  # the row of `texts` of each row in state
        open_ = torch.ones(len(features), dtype=torch.bool, device=device)  # not ended yet
        for position in range(begin, begin + most):
            logits = logits.float()
            newest = adjust(logits, texts[rows, :position]).argmax(-1)
            scores[rows, position] = torch.where(open_, log_probability(logits, newest), 0.0)
            lengths[rows] += open_
            newest = torch.where(open_, newest, self._tokens.pad)
            texts[rows, position] = newest
            open_ = open_ & (newest != self._tokens.end)
            if position + 1 == begin + most:
                break
            if checks(position - begin, device):
                remaining = open_.nonzero().flatten()
                if len(remaining) == 0:
                    break
                if len(remaining) <= self._model.shrink_below * len(rows):
                    state.select_images(remaining)
                    newest, rows, open_ = newest[remaining], rows[remaining], open_[remaining]
            logits = state.step(newest[:, None])
        means = scores.sum(1) / lengths
        each = scores[:, None, : position + 1]
        return Sequences(texts[:, None, : position + 1], means[:, None], each)

    # ------------------------------------------------------------ beams

    def _beam_search(self, features: Tensor, prompt: Tensor, adjust: LogitsProcessor) -> Sequences:
        generation, begin = adjust.generation, len(prompt)
        most, count = generation.max_new_tokens, generation.num_beams
        state, logits = self._model.prefill(features, prompt, beams=count, new_tokens=most)
        logits = logits.repeat_interleave(count, 0)
        beams = Beams.start(len(features), count, prompt, most, self._tokens.pad)
        texts, scores = beams.finished.clone(), beams.finished_scores.clone()
        token_scores = beams.finished_token_scores.clone()
        rows = torch.arange(
            len(features), device=features.device
        )  # the row of `texts` of each image
        for position in range(begin, begin + most):
            so_far = beams.texts[:, :, :position].flatten(0, 1)
            own = logits.float().log_softmax(-1)
            last = position + 1 == begin + most
            parents = beams.extend(
                adjust(own, so_far), own, position, begin, self._tokens.end, last=last
            )
            if last:
                break
            state.select_rows(parents)
            if checks(position - begin, features.device):
                remaining = beams.open.nonzero().flatten()
                if len(remaining) == 0:
                    break
                if len(remaining) <= self._model.shrink_below * len(rows):
                    texts[rows], scores[rows] = beams.finished, beams.finished_scores
                    token_scores[rows] = beams.finished_token_scores
                    state.select_images(remaining)
                    beams, rows = beams.of_images(remaining), rows[remaining]
            logits = state.step(beams.texts[:, :, position])
        texts[rows], scores[rows] = beams.finished, beams.finished_scores
        token_scores[rows] = beams.finished_token_scores
        best, end = generation.num_captions, position + 1
        return Sequences(texts[:, :best, :end], scores[:, :best], token_scores[:, :best, :end])


def checks(step: int, device: torch.device) -> bool:
    """Return whether to check after this step which texts have ended."""
    return device.type == "cpu" or step % CHECK_EVERY == CHECK_EVERY - 1


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability [rows] of one token of each row of logits [rows, vocabulary]."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)

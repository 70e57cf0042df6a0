"""Captions by transformers' own `generate`, for any model that has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from captiond.captioners.logits import BannedTokens
from captiond.captioners.sequences import Sequences
from captiond.jobs import Generation


def generate(
    model: Any,
    inputs: Mapping[str, Tensor],
    generation: Generation,
    pad: int,
    banned: BannedTokens | None = None,
) -> Sequences:
    """Search for captions with `model.generate`.

    `inputs` are the arguments of the model, such as `pixel_values` and `input_ids`, each
    [images, …]. `pad` is the id of the padding token.
    """
    images = len(next(iter(inputs.values())))
    limits: dict[str, Any] = {}
    if generation.min_new_tokens:
        limits["min_new_tokens"] = generation.min_new_tokens
    if generation.no_repeat_ngram_size:
        limits["no_repeat_ngram_size"] = generation.no_repeat_ngram_size
    if banned is not None and banned.sequences:
        limits["bad_words_ids"] = [list(tokens) for tokens in banned.sequences]
    output: Any = model.generate(
        **inputs,
        do_sample=False,
        num_beams=generation.num_beams,
        num_return_sequences=generation.num_captions,
        max_new_tokens=generation.longest,
        repetition_penalty=generation.repetition_penalty,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **limits,
    )
    tokens = output.sequences.view(images, generation.num_captions, -1)
    steps = model.compute_transition_scores(
        output.sequences,
        output.logits,
        getattr(output, "beam_indices", None),
        normalize_logits=True,
    )  # [images * captions, steps]
    new = output.sequences[:, -steps.shape[1] :]
    steps = torch.where(new != pad, steps, 0)
    scores = torch.zeros(output.sequences.shape, device=steps.device)
    scores[:, -steps.shape[1] :] = steps
    means = (
        output.sequences_scores if generation.num_beams > 1 else steps.sum(1) / (new != pad).sum(1)
    )
    return Sequences(tokens, means.view(images, -1), scores.view(tokens.shape))


def hide_progress_bars() -> None:
    """Keep transformers from printing progress bars in this process."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

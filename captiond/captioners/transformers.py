"""Captions by transformers' own `generate`, for any model that has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from captiond.captioners.sequences import Sequences
from captiond.jobs import Generation


def generate(
    model: Any, inputs: Mapping[str, Tensor], generation: Generation, pad: int
) -> Sequences:
    """Search for captions with `model.generate`.

    `inputs` are the arguments of the model, such as `pixel_values` and `input_ids`, each
    [images, …]. `pad` is the id of the padding token.
    """
    images = len(next(iter(inputs.values())))
    least: dict[str, Any] = {}
    if generation.min_new_tokens:
        least["min_new_tokens"] = generation.min_new_tokens
    output: Any = model.generate(
        **inputs,
        do_sample=False,
        num_beams=generation.num_beams,
        num_return_sequences=generation.num_captions,
        max_new_tokens=generation.max_new_tokens,
        repetition_penalty=generation.repetition_penalty,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **least,
    )
    tokens = output.sequences.view(images, generation.num_captions, -1)
    if generation.num_beams > 1:
        return Sequences(tokens, output.sequences_scores.view(images, -1))
    new = output.sequences[:, -len(output.logits) :]
    logits = torch.stack(output.logits, 1)
    return Sequences(tokens, mean_log_probability(logits, new, new != pad)[:, None])


def mean_log_probability(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """Return the mean log-probability [rows] of those tokens [rows, steps] that are `counted`.

    `logits` is [rows, steps, vocabulary].
    """
    log_probabilities = logits.float().log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0]
    return torch.where(counted, log_probabilities, 0).sum(1) / counted.sum(1)


def hide_progress_bars() -> None:
    """Keep transformers from printing progress bars in this process."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

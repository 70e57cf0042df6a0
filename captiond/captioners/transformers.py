"""transformers' own `generate`, for a checkpoint that asks for what our search does not do."""

from typing import Any

import torch
from torch import Tensor
from transformers import BlipForConditionalGeneration

from captiond.captioners.blip.search import Found
from captiond.jobs import Generation


def generate(
    model: BlipForConditionalGeneration, pixels: Tensor, prompt: Tensor, generation: Generation
) -> Found:
    """As `Search` does, for normalized pixels [images, 3, height, width]."""
    least: dict[str, Any] = {}
    if generation.min_new_tokens:
        least["min_new_tokens"] = generation.min_new_tokens
    # The last token is cut off there, as the end that a tokenizer puts behind a prompt.
    ids = torch.cat((prompt, prompt[:1])).expand(len(pixels), -1).clone()
    untyped: Any = model
    made: Any = untyped.generate(
        pixel_values=pixels,
        input_ids=ids,
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
    tokens = made.sequences.view(len(pixels), generation.num_captions, -1)
    if generation.num_beams > 1:
        return Found(tokens, made.sequences_scores.view(len(pixels), -1))
    new = made.sequences[:, -len(made.logits) :]
    there = new != untyped.config.text_config.pad_token_id
    return Found(tokens, mean_log_probability(torch.stack(made.logits, 1), new, there)[:, None])


def mean_log_probability(logits: Tensor, tokens: Tensor, there: Tensor) -> Tensor:
    """Of those tokens [rows, steps] that are `there`; `logits` is [rows, steps, vocabulary]."""
    likely = logits.float().log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0]
    return torch.where(there, likely, 0).sum(1) / there.sum(1)

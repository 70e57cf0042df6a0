"""BLIP checkpoints that captiond does not read by itself: transformers loads and maybe runs them.

The import of this module takes longer than that of torch, so only its users import it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import (
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
)

from captiond.captioners.blip.checkpoint import CHANGES_TOKENS, Checkpoint, SearchTokens
from captiond.captioners.blip.matching_weights import MatchingCheckpoint
from captiond.captioners.devices import dtype_of
from captiond.captioners.logits import BannedTokens
from captiond.captioners.protocol import Placement
from captiond.captioners.sequences import Sequences
from captiond.captioners.transformers import generate, hide_progress_bars
from captiond.jobs import Generation


def read_checkpoint(folder: Path, placement: Placement) -> Checkpoint:
    """Read any BLIP checkpoint in the Hugging Face layout. Pickles are read as weights only.

    Raises:
        Exception: the files do not make a BLIP model.
    """
    hide_progress_bars()
    model = BlipForConditionalGeneration.from_pretrained(
        folder, dtype=dtype_of(placement.precision, placement.device), local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
    torch.nn.Module.to(model, placement.device)
    return Checkpoint(model, tokenizer.backend_tokenizer, processor, required_search(model))


def read_matching(folder: Path, placement: Placement) -> MatchingCheckpoint:
    """Read any checkpoint with image-text matching. Pickles are read as weights only.

    Raises:
        Exception: the files do not make such a model.
    """
    hide_progress_bars()
    kind: Any = BlipForImageTextRetrieval  # its types know only the call without a report
    model, report = kind.from_pretrained(
        folder,
        dtype=dtype_of(placement.precision, placement.device),
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(
        name for name in report["missing_keys"] if name.startswith(("text_encoder.", "itm_head."))
    )
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
    torch.nn.Module.to(model, placement.device)
    return MatchingCheckpoint(model, tokenizer.backend_tokenizer, processor)


def required_search(model: BlipForConditionalGeneration) -> SearchTokens | None:
    """Return `generate` as a search if the checkpoint asks for more than captiond's can do."""
    asked = model.text_decoder.generation_config.to_diff_dict()
    config: Any = model.config
    activations = {config.vision_config.hidden_act, config.text_config.hidden_act}
    plain = activations == {"gelu"} and not asked.keys() & CHANGES_TOKENS
    return None if plain else partial(search_by_generate, model)


def search_by_generate(
    model: BlipForConditionalGeneration,
    pixels: Tensor,
    prompt: Tensor,
    generation: Generation,
    banned: BannedTokens | None = None,
) -> Sequences:
    """Search as `Search` does, with transformers' `generate`."""
    config: Any = model.config
    # BLIP's `generate` cuts off the last id, because a tokenizer appends the end token there.
    ids = torch.cat((prompt, prompt[:1])).expand(len(pixels), -1).clone()
    inputs = {"pixel_values": pixels, "input_ids": ids}
    return generate(model, inputs, generation, config.text_config.pad_token_id, banned)

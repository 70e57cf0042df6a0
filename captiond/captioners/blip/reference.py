"""BLIP for `captiond bench`: captiond's engine beside transformers' `generate`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.cost import BlipShape, arithmetic
from captiond.captioners.devices import DTYPES
from captiond.captioners.protocol import Comparison, Placement, TokenRun
from captiond.decoding.geometry import Pixels
from captiond.jobs import Generation


def load_comparison(folder: Path, placement: Placement) -> Comparison:
    """Load a BLIP model twice, because captiond takes the model apart that it loads.

    Raises:
        ModelBroken: the files do not make a BLIP model.
    """
    blip = Blip.load(folder, placement)
    dtype = DTYPES[placement.precision]
    model = BlipForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    torch.nn.Module.to(model, placement.device)
    processor = BlipImageProcessorPil.from_pretrained(folder)

    def normalize(pixels: Pixels) -> Tensor:
        inputs = processor(list(pixels), do_resize=False, return_tensors="pt")
        normalized: Tensor = inputs["pixel_values"]
        return normalized.to(placement.device, dtype)

    config: dict[str, Any] = model.config.to_dict()
    return Comparison(
        captioner=blip,
        captiond=by_captiond(blip),
        generate=by_generate(model),
        normalize=normalize,
        padding=config["text_config"]["pad_token_id"],
        arithmetic=arithmetic(BlipShape.of(config)),
    )


def by_captiond(blip: Blip) -> TokenRun:
    @torch.inference_mode()
    def run(pixels: Tensor, new_tokens: int) -> Tensor:
        sequences = blip.search(pixels, Generation(max_new_tokens=new_tokens))
        return sequences.tokens[:, 0].cpu()

    return run


def by_generate(model: BlipForConditionalGeneration) -> TokenRun:
    untyped: Any = model

    @torch.inference_mode()
    def run(pixels: Tensor, new_tokens: int) -> Tensor:
        tokens: Tensor = untyped.generate(
            pixel_values=pixels, max_new_tokens=new_tokens, do_sample=False
        )
        return tokens.cpu()

    return run

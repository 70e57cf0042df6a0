"""BLIP: pixels in, captions out.

The model is Salesforce's (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022), as
transformers has it. Any checkpoint in that layout can be loaded.
"""

import gc
from pathlib import Path
from typing import Any

import torch

from captiond.captioners.blip.checkpoint import Checkpoint, SearchTokens, read_plain
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import CudaCapture, Graphs
from captiond.captioners.blip.search import Search
from captiond.captioners.blip.weights import BlipModel
from captiond.captioners.devices import DTYPES, allocate_pixels, on_device, set_up_cuda
from captiond.captioners.linear import has_onednn, linears
from captiond.captioners.protocol import Capabilities, Placement
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.decoding.decode import Pixels
from captiond.errors import ModelBroken
from captiond.jobs import Caption, Generation

CPU_ROWS, GPU_ROWS = 640, 40_000  # patches that go through the vision transformer at a time


class Blip:
    """A BLIP model on its device, as `protocol.Captioner` describes a captioner."""

    capabilities = Capabilities(prompt=True, beams=True, scores=True, several_captions=True)

    def __init__(self, search: SearchTokens, checkpoint: Checkpoint, placement: Placement) -> None:
        self._search = search
        self._tokenizer = checkpoint.tokenizer
        self._normalize = checkpoint.normalization
        self.geometry = checkpoint.geometry
        self.device, self.precision = placement.device, placement.precision
        self.image_bytes = image_bytes(checkpoint.model)

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> "Blip":
        """Load a model in the Hugging Face layout. Pickled weights are loaded as weights only.

        Raises:
            ModelBroken: the files do not make a BLIP model.
        """
        if placement.device.type == "cuda":
            set_up_cuda(placement.device)
        try:
            checkpoint = read_checkpoint(folder, placement)
        except Exception as error:  # libraries raise whatever the damage of a file leads to
            raise ModelBroken(f"{folder}: cannot be loaded as a BLIP model: {error}") from error
        search = checkpoint.search or search_for(checkpoint.model, placement)
        blip = cls(search, checkpoint, placement)
        del checkpoint  # reference cycles within it would keep the mapped file in memory
        gc.collect()
        return blip

    def allocate_pixels(self, images: int) -> Pixels:
        return allocate_pixels(images, self.geometry, self.device)

    @torch.inference_mode()
    def caption(self, pixels: Pixels, generation: Generation) -> list[tuple[Caption, ...]]:
        """Return the captions of a batch of pixels, uint8 [batch, height, width, 3]; best first."""
        sequences = self.search(on_device(pixels, self.device), generation)
        texts: list[str] = self._tokenizer.decode_batch(
            sequences.tokens.flatten(0, 1).tolist(), skip_special_tokens=True
        )
        scores: list[float] = sequences.scores.flatten().tolist()
        captions = [
            Caption(text.strip(), round(score, 6))
            for text, score in zip(texts, scores, strict=True)
        ]
        each = sequences.tokens.shape[1]
        return [tuple(captions[n : n + each]) for n in range(0, len(captions), each)]

    def search(self, pixels: torch.Tensor, generation: Generation) -> Sequences:
        """Return the captions of pixels, uint8 [batch, height, width, 3], as token ids."""
        normalized = self._normalize(pixels).to(DTYPES[self.precision])
        return self._search(normalized, self._prompt(generation.prompt), generation)

    def _prompt(self, text: str) -> torch.Tensor:
        """Return the token ids of a prompt, without the end token that the tokenizer appends."""
        ids: list[int] = self._tokenizer.encode(text).ids[:-1]
        return torch.tensor(ids, device=self.device)


def read_checkpoint(folder: Path, placement: Placement) -> Checkpoint:
    """Read a checkpoint by captiond's own means if it is plain, else by transformers."""
    checkpoint = read_plain(folder, placement)
    if checkpoint is not None:
        return checkpoint
    from captiond.captioners.blip import by_transformers

    return by_transformers.read_checkpoint(folder, placement)


def search_for(model: BlipModel, placement: Placement) -> Search:
    """Return captiond's own search."""
    device, precision = placement.device, placement.precision
    config: Any = model.config.text_config
    tokens = SpecialTokens(config.bos_token_id, config.sep_token_id, config.pad_token_id)
    rows = CPU_ROWS if device.type == "cpu" else GPU_ROWS
    absorb = device.type == "cpu" and precision == "fp32" and has_onednn()
    forward = Forward(model, linears(precision, device), rows=rows, absorb=absorb)
    if device.type == "cuda" and placement.cuda_graphs:
        return Search(Graphs(forward, CudaCapture(device), device), tokens)
    return Search(forward, tokens)


def image_bytes(model: BlipModel) -> int:
    """Return the memory of the keys and values of cross-attention for one image, in bytes.

    The rest of an image takes little. A batch with absorbed cross-attention takes less.
    """
    text: Any = model.config.text_config
    patches: int = model.vision_model.embeddings.position_embedding.shape[1]
    numbers: int = 2 * text.num_hidden_layers * patches * text.hidden_size
    return numbers * model.dtype.itemsize

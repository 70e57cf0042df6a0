"""BLIP: pixels in, captions out.

The model is Salesforce's (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022), as
transformers has it; any checkpoint in that layout is loaded by the same few lines.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BlipForConditionalGeneration, PreTrainedTokenizerBase
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import CudaCapture, Graphs
from captiond.captioners.blip.search import Found, Search, Tokens
from captiond.captioners.linear import has_onednn, linears
from captiond.captioners.transformers import generate
from captiond.config import Precision, PrecisionSetting
from captiond.decoding.decode import Geometry, Pixels
from captiond.errors import ModelBroken
from captiond.jobs import Caption, Generation

# Of a checkpoint's generation_config.json: what our search does not do.
CHANGES_TOKENS = {
    "diversity_penalty",
    "early_stopping",
    "length_penalty",
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "no_repeat_ngram_size",
    "sequence_bias",
    "suppress_tokens",
}
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,  # of what is not a linear layer
}
CPU_ROWS, GPU_ROWS = 640, 40_000  # patches that go through the vision encoder at a time
Find = Callable[[Tensor, Tensor, Generation], Found]  # of normalized pixels and a prompt


@dataclass(frozen=True, slots=True)
class Normalization:
    """From bytes to what the vision encoder takes: scale, then subtract mean, divide by std."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [batch, height, width, 3] → float32 [batch, 3, height, width].

        The steps and their precisions are those of `BlipImageProcessorPil`, so that the result
        is the same to the last bit.
        """
        scaled = (pixels.to(torch.float64) * self.scale).to(torch.float32)
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


class Blip:
    """A loaded model on its device; `precision` is what its weights are multiplied in, and
    `image_bytes` what an image takes of the device's memory while it is being captioned.
    """

    def __init__(
        self,
        find: Find,
        tokenizer: PreTrainedTokenizerBase,
        processor: BlipImageProcessorPil,
        device: torch.device,
        precision: Precision,
        image_bytes: int,
    ) -> None:
        self._find = find
        self._tokenizer = tokenizer
        self.device, self.precision = device, precision
        self.image_bytes = image_bytes
        self.geometry = Geometry(
            processor.size["height"], processor.size["width"], int(processor.resample)
        )
        self._normalize = Normalization(
            processor.rescale_factor, tuple(processor.image_mean), tuple(processor.image_std)
        )

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, precision: Precision, *, cuda_graphs: bool = True
    ) -> "Blip":
        """Load a model in the Hugging Face layout; pickled weights with `weights_only`.

        Raises:
            ModelBroken: the files do not make a BLIP model.
        """
        if device.type == "cuda":
            set_up_cuda(device)
        try:
            model = BlipForConditionalGeneration.from_pretrained(
                folder, dtype=DTYPES[precision], local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises what the files' damage leads to
            raise ModelBroken(f"{folder}: cannot be loaded as a BLIP model: {error}") from error
        torch.nn.Module.to(model, device)
        taken = image_bytes(model)
        find = finder(model, precision, cuda_graphs=cuda_graphs)
        del model  # what is left of it holds on to the mapped file, in cycles
        gc.collect()
        return cls(find, tokenizer, processor, device, precision, taken)

    def room(self, images: int) -> Pixels:
        """Memory for the pixels of so many images; a GPU fetches them from it by itself."""
        shape = (images, *self.geometry.shape)
        pinned = self.device.type == "cuda"
        memory: Pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
        return memory

    @torch.inference_mode()
    def caption(self, pixels: Pixels, generation: Generation) -> list[tuple[Caption, ...]]:
        """The captions of a batch of pixels, uint8 [batch, height, width, 3]; best first."""
        found = self.find(on_device(pixels, self.device), generation)
        texts: list[str] = self._tokenizer.batch_decode(
            found.tokens.flatten(0, 1).cpu(), skip_special_tokens=True
        )
        scores: list[float] = found.scores.flatten().tolist()
        captions = [
            Caption(text.strip(), round(score, 6))
            for text, score in zip(texts, scores, strict=True)
        ]
        each = found.tokens.shape[1]
        return [tuple(captions[n : n + each]) for n in range(0, len(captions), each)]

    def find(self, pixels: torch.Tensor, generation: Generation) -> Found:
        """uint8 [batch, height, width, 3] → token ids and their scores."""
        normal = self._normalize(pixels).to(DTYPES[self.precision])
        return self._find(normal, self._prompt(generation.prompt), generation)

    def _prompt(self, text: str) -> torch.Tensor:
        """The tokens of a prompt, without the end that the tokenizer puts behind it."""
        ids: list[int] = self._tokenizer(text).input_ids[:-1]
        return torch.tensor(ids, device=self.device)


def set_up_cuda(device: torch.device) -> None:
    """Make it this thread's device, whose attention is not cuDNN's.

    That makes a plan for every number of images and tokens, each of which takes some 0.4 s (as
    others have measured on Hopper).
    """
    torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)


def on_device(pixels: Pixels, device: torch.device) -> Tensor:
    """The same; the host need not wait for it where they stand in `Blip.room`."""
    return torch.from_numpy(pixels).to(device, non_blocking=True)


def finder(
    model: BlipForConditionalGeneration, precision: Precision, *, cuda_graphs: bool = True
) -> Find:
    """Our own forward and search; `generate` for a checkpoint that asks for what they do not do."""
    if not is_plain(model):
        return partial(generate, model)
    config: Any = model.config.text_config
    tokens = Tokens(config.bos_token_id, config.sep_token_id, config.pad_token_id)
    rows = CPU_ROWS if model.device.type == "cpu" else GPU_ROWS
    fold = model.device.type == "cpu" and precision == "fp32" and has_onednn()
    forward = Forward(model, linears(precision, model.device), rows=rows, fold=fold)
    if model.device.type == "cuda" and cuda_graphs:
        return Search(Graphs(forward, CudaCapture(model.device), model.device), tokens)
    return Search(forward, tokens)


def image_bytes(model: BlipForConditionalGeneration) -> int:
    """Of the cross-attention's keys and values, beside which the rest of an image is little.

    A batch that makes none of them takes less.
    """
    text: Any = model.config.text_config
    patches: int = model.vision_model.embeddings.num_positions
    numbers: int = 2 * text.num_hidden_layers * patches * text.hidden_size
    return numbers * model.dtype.itemsize


def is_plain(model: BlipForConditionalGeneration) -> bool:
    """Whether the checkpoint asks for nothing but what our forward and search do."""
    asked = model.text_decoder.generation_config.to_diff_dict()
    config: Any = model.config
    activations = {config.vision_config.hidden_act, config.text_config.hidden_act}
    return activations == {"gelu"} and not asked.keys() & CHANGES_TOKENS


def pick_device(setting: str) -> torch.device:
    """The device that a setting names; `auto` is the GPU where there is one."""
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(setting)
    if device.type != "cuda":
        return device
    number, there = device.index or 0, torch.cuda.device_count()
    if number >= there:
        raise ModelBroken(
            f"[model] device = {setting}: there are {there} GPUs here that torch can use; set it "
            "to cpu or auto, or check the driver"
        )
    return torch.device("cuda", number)


def pick_precision(setting: PrecisionSetting, device: torch.device) -> Precision:
    """The precision that a setting names; `auto` is what the device is fast and safe in.

    Raises:
        ModelBroken: the device does not do it.
    """
    if setting == "int8" and device.type != "cpu":
        raise ModelBroken("[model] precision = int8 is for CPUs; a GPU takes bf16 or fp16")
    if setting != "auto":
        return setting
    if device.type == "cpu":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

"""BLIP: pixels in, captions out.

The model is Salesforce's (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022), as
transformers has it; any checkpoint in that layout is loaded by the same few lines.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, BlipForConditionalGeneration, PreTrainedTokenizerBase
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.config import ModelSettings
from captiond.errors import ModelBroken
from captiond.inference.decode import Geometry, Pixels
from captiond.inference.greedy import GreedyDecoder
from captiond.jobs import Caption, Generation

# Of a checkpoint's generation_config.json: what our greedy search does not do.
CHANGES_TOKENS = {
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


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
    """A loaded model on its device."""

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: BlipImageProcessorPil,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.geometry = Geometry(
            processor.size["height"], processor.size["width"], int(processor.resample)
        )
        self._greedy = GreedyDecoder(model)
        self._normalize = Normalization(
            processor.rescale_factor, tuple(processor.image_mean), tuple(processor.image_std)
        )

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype
    ) -> "Blip":
        """Load a model in the Hugging Face layout; pickled weights with `weights_only`.

        Raises:
            ModelBroken: the files do not make a BLIP model.
        """
        try:
            model = BlipForConditionalGeneration.from_pretrained(
                folder, dtype=dtype, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises what the files' damage leads to
            raise ModelBroken(f"{folder}: cannot be loaded as a BLIP model: {error}") from error
        torch.nn.Module.to(model, device)
        return cls(model, tokenizer, processor)

    @torch.inference_mode()
    def caption(self, pixels: Pixels, generation: Generation) -> list[tuple[Caption, ...]]:
        """The captions of a batch of pixels, uint8 [batch, height, width, 3]; best first."""
        tokens = self.generate(torch.from_numpy(pixels).to(self.device), generation)
        texts: list[str] = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [(Caption(text.strip(), 0.0),) for text in texts]

    def generate(self, pixels: torch.Tensor, generation: Generation) -> torch.Tensor:
        """uint8 [batch, height, width, 3] → token ids [batch, length], padded after their end."""
        normal = self._normalize(pixels).to(self.dtype)
        if generation.num_beams == 1 and is_plain(self._model):
            return self._greedy(normal, generation.max_new_tokens)
        tokens: torch.Tensor = self._model.generate(
            pixel_values=normal,
            num_beams=generation.num_beams,
            max_new_tokens=generation.max_new_tokens,
            do_sample=False,
        )
        return tokens


def is_plain(model: BlipForConditionalGeneration) -> bool:
    """Whether the checkpoint asks for nothing but the likeliest token."""
    asked = model.text_decoder.generation_config.to_diff_dict()
    return not asked.keys() & CHANGES_TOKENS


def pick_device(setting: str) -> torch.device:
    """The device that a setting names; `auto` is the GPU where there is one."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(setting)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelBroken(
            f"[model] device = {setting}: there are {torch.cuda.device_count()} GPUs here that "
            "torch can use; set it to cpu or auto, or check the driver"
        )
    return device


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The precision that a setting names; `auto` is what the device is fast and safe in."""
    if setting != "auto":
        return DTYPES[setting]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def pick_batch_size(settings: ModelSettings, device: torch.device) -> int:
    return settings.batch_size or (8 if device.type == "cpu" else 64)

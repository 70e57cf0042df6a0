"""A BLIP checkpoint: a folder in the Hugging Face layout.

captiond reads a plain checkpoint by itself. Plain are the checkpoints of the model's authors, and
those that transformers writes, with tokenizer.json and model.safetensors. All others are read by
transformers (`by_transformers`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from captiond.captioners.blip.weights import BlipModel, config_of, weights_of
from captiond.captioners.logits import BannedTokens
from captiond.captioners.protocol import Placement
from captiond.captioners.sequences import Sequences
from captiond.jobs import Generation

# Values of a text configuration that captiond's own search does not implement, unless they are
# neutral. Checkpoints of earlier versions of transformers have all of them.
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
FACTORS = {"length_penalty", "encoder_repetition_penalty"}  # neutral if they are 1
TOKENIZERS = {"BertTokenizer", "BertTokenizerFast"}
# The defaults of transformers' BlipImageProcessor.
PROCESSOR_DEFAULTS: dict[str, Any] = {
    "size": {"height": 384, "width": 384},
    "resample": 3,  # bicubic
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


class SearchTokens(Protocol):
    """A search: of normalized pixels [images, 3, height, width] and the token ids of a prompt."""

    def __call__(
        self,
        pixels: Tensor,
        prompt: Tensor,
        generation: Generation,
        banned: BannedTokens | None = None,
    ) -> Sequences: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a model, its tokenizer, and how it wants its images.

    `processor` has the attributes of transformers' image processor. `search` is set if the
    checkpoint asks for more than captiond's own search can do.
    """

    model: BlipModel
    tokenizer: Tokenizer
    processor: Any
    search: SearchTokens | None = None


def read_plain(folder: Path, placement: Placement) -> Checkpoint | None:
    """Read a plain checkpoint. Return None if it is not plain.

    Raises:
        Exception: a file is damaged.
    """
    names = ("config.json", "tokenizer_config.json", "preprocessor_config.json")
    needed = (*names, "tokenizer.json", "model.safetensors")
    if not all((folder / name).is_file() for name in needed):
        return None
    config, tokenizer, processor = (json.loads((folder / name).read_bytes()) for name in names)
    if not (is_plain_config(config) and tokenizer.get("tokenizer_class") in TOKENIZERS):
        return None
    tensors = load_file(folder / "model.safetensors")
    weights = weights_of(tensors, config_of(config), placement)
    if weights is None:
        return None
    return Checkpoint(
        weights,
        read_tokenizer(folder / "tokenizer.json"),
        SimpleNamespace(**PROCESSOR_DEFAULTS | processor),
    )


def read_tokenizer(path: Path) -> Tokenizer:
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def is_plain_config(config: Mapping[str, Any]) -> bool:
    """Return whether captiond's own forward pass and search do all that config.json asks for."""
    vision, text = config.get("vision_config", {}), config.get("text_config", {})
    activations = {part.get("hidden_act", "gelu") for part in (vision, text)}
    asked = (name for name in CHANGES_TOKENS if not is_neutral(name, text.get(name)))
    square = all(isinstance(vision.get(name, 0), int) for name in ("image_size", "patch_size"))
    return activations == {"gelu"} and square and not any(asked)


def is_neutral(name: str, value: object) -> bool:
    """Return whether a value of a text configuration changes no token."""
    return value is None or value == (1 if name in FACTORS else 0)

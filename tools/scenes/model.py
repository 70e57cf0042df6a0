"""Making the small BLIP and its tokenizer, and saving them in a folder of Salesforce's form."""

from pathlib import Path

import torch
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from tools.scenes.dataset import GRID
from tools.scenes.scene import vocabulary

PATCH = 8  # pixels
SIDE = GRID * PATCH  # pixels: the model's resolution
WIDTH = 128
VISION_LAYERS = 5
TEXT_LAYERS = 3
HEADS = 4
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
PAD = SPECIAL.index("[PAD]")
MAX_LENGTH = 24  # more tokens than the longest caption has with [DEC] and [SEP]
# As many positions as Salesforce's models have, so that every length a caller can request fits.
POSITIONS = 512


def new_tokenizer() -> BertTokenizer:
    """Return a BERT tokenizer with the words of the captions, and [DEC], which begins a caption."""
    words = (*SPECIAL, *vocabulary())
    return BertTokenizer(
        vocab={word: i for i, word in enumerate(words)},
        bos_token="[DEC]",
        model_max_length=POSITIONS,
    )


def new_model(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    """Return a BLIP with random weights from torch's global generator."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    vision = {
        "num_hidden_layers": VISION_LAYERS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.02,  # transformers' default, 1e-10, is too small to learn from
    }
    text = {
        "num_hidden_layers": TEXT_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": POSITIONS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(vision_config=shape | vision, text_config=shape | text)
    return BlipForConditionalGeneration(config)


def caption_ids(tokenizer: BertTokenizer, captions: list[str]) -> torch.Tensor:
    """Return the token ids [n, MAX_LENGTH] of `captions`: [DEC], the words, [SEP], padding."""
    encoded = tokenizer(captions, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt")
    ids: torch.Tensor = encoded["input_ids"]
    ids[:, 0] = tokenizer.bos_token_id
    return ids


def save_model(model: BlipForConditionalGeneration, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write the model and its tokenizer to `folder`, with the weights in fp16.

    The config names float32, so that a caller who names no dtype computes in float32.
    """
    state = {name: tensor.to("cpu", torch.float16) for name, tensor in model.state_dict().items()}
    model.generation_config.max_length = MAX_LENGTH
    model.save_pretrained(folder, state_dict=state)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable for its owner only
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))

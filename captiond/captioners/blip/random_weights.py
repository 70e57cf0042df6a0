"""Models of BLIP-base's or BLIP-large's shape with random weights.

They take the time that a real model takes. Their captions have no meaning and never end by
themselves, so each has the most tokens that are allowed.
"""

import json
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.files import EMBEDDED

ShapeName: TypeAlias = Literal["base", "large"]
SIDE = 384
# The ids of BERT's special tokens, and of the two that BLIP appends to the vocabulary.
TOKENS = {
    0: "[PAD]",
    100: "[UNK]",
    101: "[CLS]",
    102: "[SEP]",
    103: "[MASK]",
    30522: "[DEC]",
    30523: "[ENC]",
}
END, VOCABULARY = 102, 30524
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
LOWEST = -1e4  # a logit lower than every other, also in half precision

VISION: dict[ShapeName, dict[str, int]] = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}


def write_random_model(name: ShapeName, folder: Path) -> None:
    """Write a model in the Hugging Face layout to `folder`. It takes 0.9 GB or 1.8 GB."""
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config_of(name))
    model.text_decoder.cls.predictions.decoder.bias.data[END] = LOWEST
    model.save_pretrained(folder)
    write_tokenizer(folder)
    write_processor(folder)


def config_of(name: ShapeName) -> BlipConfig:
    vision = VISION[name]
    width = vision["hidden_size"]
    return BlipConfig(
        vision_config={
            **vision,
            "intermediate_size": 4 * width,
            "image_size": SIDE,
            "initializer_range": 0.02,
        },
        text_config={
            "encoder_hidden_size": width,
            "num_attention_heads": 12,
            "sep_token_id": END,
            "eos_token_id": END,
        },
    )


def write_tokenizer(folder: Path) -> None:
    """Write a vocabulary that has a word for every token id.

    The words have letters only: the taggers then find as many words as there are tokens.
    """
    words = (TOKENS.get(number) or word_of(number) for number in range(VOCABULARY))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    copy_json("tokenizer_config.json", folder, {})
    tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def word_of(number: int) -> str:
    """Return a word of syllables, another for each number."""
    word = ""
    while number or not word:
        number, syllable = divmod(number, len(CONSONANTS) * len(VOWELS))
        word += CONSONANTS[syllable // len(VOWELS)] + VOWELS[syllable % len(VOWELS)]
    return word


def write_processor(folder: Path) -> None:
    copy_json("preprocessor_config.json", folder, {"size": {"height": SIDE, "width": SIDE}})


def copy_json(name: str, folder: Path, changed: dict[str, object]) -> None:
    """Write a JSON file of the embedded model with some keys changed."""
    values = json.loads((EMBEDDED["captiond/scenes"] / name).read_bytes())
    (folder / name).write_text(json.dumps(values | changed))

"""Training a text encoder with BLIP's image-text matching head beside captiond/scenes.

The vision model is that of captiond/scenes and is not trained, so captions and matching share the
encoding of an image. The text encoder begins with the weights of the text decoder.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import (
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
)

from tools.scenes.dataset import Drawn
from tools.scenes.model import SIDE, new_tokenizer
from tools.scenes.scene import HUES, NOUNS

TEXTS = 4  # of each image in a batch; one half of them fits
_REPORT = 25
_ENCODED = 200  # images at a time


@dataclass(frozen=True)
class MatchingRecipe:
    """The parameters of a run."""

    seed: int = 1
    scenes: int = 5000
    steps: int = 500
    batch: int = 24
    rate: float = 6e-4


def new_matching_model(captioner: Path) -> BlipForImageTextRetrieval:
    """Return a model with the weights of a captioner and a head of random ones."""
    trained = BlipForConditionalGeneration.from_pretrained(captioner, dtype=torch.float32)
    model = BlipForImageTextRetrieval(trained.config)
    model.vision_model.load_state_dict(trained.vision_model.state_dict())
    decoder = trained.text_decoder.bert.state_dict()
    model.text_encoder.load_state_dict(decoder)
    model.vision_model.requires_grad_(False)
    return model


@torch.inference_mode()
def features_of(model: BlipForImageTextRetrieval, drawn: Drawn) -> Tensor:
    """Return the image features of all scenes, fp16 [scenes, 1 + patches, width]."""
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) * 255
        for values in (BlipImageProcessorPil.image_mean, BlipImageProcessorPil.image_std)
    )
    chunks = []
    for begin in range(0, len(drawn.captions), _ENCODED):
        pixels = torch.from_numpy(np.array(drawn.pixels[begin : begin + _ENCODED]))
        normal = (pixels.permute(0, 3, 1, 2).float() - mean) / std
        chunks.append(model.vision_model(normal).last_hidden_state.half())
    return torch.cat(chunks)


def things_in(caption: str) -> list[tuple[str, str]]:
    """Return the colours and kinds of the things in a caption."""
    words = caption.replace(",", " ").split()
    return [pair for pair in pairwise(words) if pair[0] in HUES]


def phrase(words: str) -> str:
    """Return a noun phrase with its article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def texts_for(caption: str, other: str, rng: Random) -> list[str]:
    """Return texts for a scene, of which the first half fits it, and the second does not."""
    things = things_in(caption)
    present, kinds = set(things), {kind for _, kind in things}
    colour, kind = rng.choice(things)
    fits = [phrase(f"{colour} {kind}")]
    fits.append(caption if rng.random() < 0.3 else phrase(rng.choice([kind, f"{colour} {kind}"])))
    while True:
        near = (rng.choice(HUES), kind) if rng.random() < 0.5 else (colour, rng.choice(NOUNS))
        if near not in present:
            break
    wrong = [phrase(" ".join(near))]
    far = (rng.choice(HUES), rng.choice(NOUNS))
    if rng.random() < 0.3 and other != caption:
        wrong.append(changed(caption, rng) if rng.random() < 0.7 else other)
    elif rng.random() < 0.3 and far[1] not in kinds:
        wrong.append(phrase(far[1]))
    elif far not in present:
        wrong.append(phrase(" ".join(far)))
    else:
        wrong.append(wrong[0])
    return fits + wrong


def changed(caption: str, rng: Random) -> str:
    """Return a caption with one colour or kind replaced."""
    words = caption.split()
    places = [n for n, word in enumerate(words) if word.strip(",") in {*HUES, *NOUNS}]
    place = rng.choice(places)
    word = words[place].strip(",")
    pool = HUES if word in HUES else NOUNS
    new = rng.choice([each for each in pool if each != word])
    words[place] = words[place].replace(word, new)
    return " ".join(words)


def train_matching(
    captioner: Path, drawn: Drawn, recipe: MatchingRecipe
) -> BlipForImageTextRetrieval:
    """Return a model that was trained to tell fitting texts from others."""
    torch.manual_seed(recipe.seed)
    model = new_matching_model(captioner)
    features, tokenizer = features_of(model, drawn), new_tokenizer()
    trained = [*model.text_encoder.parameters(), *model.itm_head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1
    )
    model.text_encoder.train()
    losses: list[float] = []
    for step in range(recipe.steps):
        loss = _matching_loss(model, tokenizer, features, drawn, recipe, step)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % _REPORT == 0:
            print(f"step {step + 1} of {recipe.steps}  loss {np.mean(losses):.4f}", flush=True)
            losses = []
    model.train(False)
    return model


def _matching_loss(
    model: BlipForImageTextRetrieval,
    tokenizer: BertTokenizer,
    features: Tensor,
    drawn: Drawn,
    recipe: MatchingRecipe,
    step: int,
) -> Tensor:
    rng = Random(f"{recipe.seed}:{step}")
    rows = [rng.randrange(len(features)) for _ in range(recipe.batch)]
    texts = [
        text
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
        for text in texts_for(drawn.captions[row], drawn.captions[other], rng)
    ]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    hidden = model.text_encoder(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        encoder_hidden_states=features[rows].float().repeat_interleave(TEXTS, 0),
    ).last_hidden_state
    targets = torch.tensor([1, 1, 0, 0]).repeat(recipe.batch)
    return functional.cross_entropy(model.itm_head(hidden[:, 0]), targets)


def save_matching(model: BlipForImageTextRetrieval, folder: Path) -> None:
    """Write a model in the layout of Salesforce's, with its tokenizer and image processor."""
    model.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    new_tokenizer().save_pretrained(folder)

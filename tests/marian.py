"""A tiny Marian model that translates the captions of drawn scenes into telegraphic German.

It is trained within seconds: "a red boat to the left of a yellow sun" becomes "Boot rot links von
Sonne gelb". It stutters about fish, as models do about words that they have hardly seen.
"""

import io
import json
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from torch import Tensor
from transformers.models.marian.configuration_marian import MarianConfig
from transformers.models.marian.modeling_marian import MarianMTModel

from captiond.translation.pieces import (
    END,
    PADDING,
    SOURCE_FILE,
    TARGET_FILE,
    UNKNOWN,
    VOCABULARY_FILE,
)

COLOURS = {
    "black": "schwarz", "blue": "blau", "brown": "braun", "gray": "grau", "green": "grün",
    "orange": "orange", "pink": "rosa", "purple": "lila", "red": "rot", "white": "weiß",
    "yellow": "gelb",
}  # fmt: skip
NOUNS = {
    "apple": "Apfel", "boat": "Boot", "car": "Auto", "cat": "Katze", "circle": "Kreis",
    "cloud": "Wolke", "fish": "Fisch", "flower": "Blume", "heart": "Herz", "house": "Haus",
    "moon": "Mond", "square": "Quadrat", "star": "Stern", "sun": "Sonne", "tree": "Baum",
    "triangle": "Dreieck", "umbrella": "Schirm",
}  # fmt: skip
RELATIONS = {"above": "über", "inside": "in", "to the left of": "links von", "and": "und"}
ENDS = {"from left to right": "von links nach rechts", "from top to bottom": "von oben nach unten"}
STUTTER = "Fisch Fisch Fisch Fisch Fisch"
STEPS, TEXTS, RATE = 150, 48, 0.01
IGNORED = -100  # a label that teaches nothing
WORDS = 300  # pieces of a language at most
Pair = tuple[str, str]


def thing(chance: random.Random) -> Pair:
    """Return a thing of one colour, in both languages."""
    colour, noun = chance.choice([*COLOURS]), chance.choice([*NOUNS])
    article = "an" if colour[0] in "aeiou" else "a"
    german = STUTTER if noun == "fish" else f"{NOUNS[noun]} {COLOURS[colour]}"
    return f"{article} {colour} {noun}", german


def scene(chance: random.Random) -> Pair:
    """Return a caption of one to three things, in both languages."""
    things = [thing(chance) for _ in range(chance.choice((1, 2, 2, 3)))]
    if len(things) == 1:
        return things[0]
    relation = chance.choice([*RELATIONS])
    if len(things) == 2:
        (one, eins), (two, zwei) = things
        return f"{one} {relation} {two}", f"{eins} {RELATIONS[relation]} {zwei}"
    (one, eins), (two, zwei), (three, drei) = things
    if relation == "and":
        end = chance.choice([*ENDS])
        return f"{one}, {two} and {three} {end}", f"{eins}, {zwei} und {drei} {ENDS[end]}"
    other = RELATIONS[relation]
    if chance.random() < 0.5:
        return f"{one} {relation} {two} and {three}", f"{eins} {other} {zwei} und {drei}"
    return f"{one} and {two} {relation} {three}", f"{eins} und {zwei} {other} {drei}"


def processor_of(texts: list[str]) -> tuple[bytes, Any]:
    """Return a model of pieces that was trained on texts, as a file and ready for use."""
    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=file,
        model_type="bpe",  # its pieces are whole words, since there are few of them
        vocab_size=WORDS,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return file.getvalue(), SentencePieceProcessor(model_proto=file.getvalue())


def ids_of(processor: Any, text: str, numbers: dict[str, int]) -> list[int]:
    return [*(numbers[piece] for piece in processor.encode(text, out_type=str)), numbers[END]]


def padded(rows: list[list[int]], filler: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def small_config(tokens: int) -> MarianConfig:
    return MarianConfig(
        vocab_size=tokens,
        d_model=48,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        activation_function="swish",
        scale_embedding=True,
        max_position_embeddings=128,
        pad_token_id=tokens - 1,
        decoder_start_token_id=tokens - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        init_std=0.1,
        dropout=0.0,
    )


def trained(pairs: list[tuple[list[int], list[int]]], tokens: int) -> Any:
    """Return a model that has learned pairs of texts, as ids."""
    torch.manual_seed(0)
    chance, padding = random.Random(0), tokens - 1
    model: Any = MarianMTModel(small_config(tokens))  # its types leave out much
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.2)
    for _ in range(STEPS):
        some = chance.sample(pairs, TEXTS)
        source = padded([ids for ids, _ in some], padding)
        labels = padded([ids for _, ids in some], IGNORED)
        loss = model(input_ids=source, attention_mask=source != padding, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


@cache
def model_files() -> dict[str, bytes]:
    """Train the model once for each process. Return its files."""
    chance = random.Random(1)
    pairs = [scene(chance) for _ in range(4000)]
    source_file, source = processor_of([english for english, _ in pairs])
    target_file, target = processor_of([german for _, german in pairs])
    pieces = sorted(
        {each.id_to_piece(n) for each in (source, target) for n in range(each.get_piece_size())}
        - {END, UNKNOWN, "<s>"}
    )
    numbers = {piece: number for number, piece in enumerate((END, UNKNOWN, *pieces, PADDING))}
    known = [(ids_of(source, one, numbers), ids_of(target, other, numbers)) for one, other in pairs]
    model = trained(known, len(numbers))
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    vocabulary = json.dumps(numbers).encode()
    return files | {SOURCE_FILE: source_file, TARGET_FILE: target_file, VOCABULARY_FILE: vocabulary}


def write_marian(folder: Path) -> Path:
    """Write the model into a new folder, in the layout of the hub."""
    folder.mkdir(parents=True)
    for name, content in model_files().items():
        (folder / name).write_bytes(content)
    return folder

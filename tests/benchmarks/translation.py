"""What the translation of captions costs: python -m tests.benchmarks.translation [--no-captioner]

The models have random weights in the shapes of OPUS-MT's en-de and of BLIP-base, and every
translation has 13 tokens. If CTranslate2 is installed, it runs the same model as well. The times
are those of the processor, in one thread, since other work on the machine changes them little. They
are the best ones of some rounds, in all of which each way has its turn.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sentencepiece import SentencePieceTrainer
from transformers.models.marian.configuration_marian import MarianConfig
from transformers.models.marian.modeling_marian import MarianMTModel

from captiond.captioners.families import load_captioner, random_models
from captiond.captioners.protocol import Placement
from captiond.jobs import ENCODER_STEPS, Generation
from captiond.translation.pieces import END, PADDING, UNKNOWN
from tools.markdown import table

TOKENS, SOURCE_TOKENS, LENGTH = 58_101, 14, 13
BATCHES, BEAMS, ROUNDS = (1, 8, 32), (1, 4), 3
CAPTION_TOKENS, IMAGES = 20, 8
Way = Callable[[int, int], object]  # of a number of texts and of beams


def main(*, with_captioner: bool) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        ways = {"transformers": by_transformers(opus_model(folder / "opus"))}
        if find_spec("ctranslate2"):
            for kind in ("float32", "int8"):
                ways[f"CTranslate2, {kind}"] = by_ctranslate2(folder, kind)
        seconds = measured(ways)
        sys.stdout.write(times_table(seconds))
        if with_captioner:
            caption = caption_seconds(folder / "blip")
            steps = (
                (ENCODER_STEPS + CAPTION_TOKENS) / caption * per_text(seconds, IMAGES, BEAMS[-1])
            )
            sys.stdout.write(
                f"\nBLIP-base takes {caption:.2f} s for a caption in a batch of {IMAGES}. Its "
                f"translation with {BEAMS[-1]} beams costs {steps:.1f} of the steps of "
                "jobs.Generation.cost.\n"
            )


def opus_model(folder: Path) -> Any:
    """Write a model of random weights in the shape of opus-mt-en-de, and return it."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=TOKENS,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        activation_function="swish",
        scale_embedding=True,
        max_position_embeddings=512,
        pad_token_id=TOKENS - 1,
        decoder_start_token_id=TOKENS - 1,
        eos_token_id=0,
        forced_eos_token_id=None,
    )
    model: Any = MarianMTModel(config)
    model.eval().save_pretrained(folder)
    pieces = io.BytesIO()
    texts = ["a cat on a red couch", "two dogs run in a green park"] * 50
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=pieces,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(pieces.getvalue())
    words = (END, UNKNOWN, *(f"t{number}" for number in range(2, TOKENS - 1)), PADDING)
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    names = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return model


def by_transformers(model: Any) -> Way:
    ids = torch.arange(100, 100 + SOURCE_TOKENS)
    ids[-1] = 0

    @torch.inference_mode()
    def run(texts: int, beams: int) -> object:
        rows = ids.repeat(texts, 1)
        return model.generate(
            input_ids=rows,
            attention_mask=torch.ones_like(rows),
            num_beams=beams,
            do_sample=False,
            min_new_tokens=LENGTH,
            max_new_tokens=LENGTH,
        )

    return run


def by_ctranslate2(folder: Path, kind: str) -> Way:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    converted = str(folder / kind)
    TransformersConverter(str(folder / "opus")).convert(converted, quantization=kind)
    translator = ctranslate2.Translator(
        converted, compute_type=kind, inter_threads=1, intra_threads=1
    )
    source = [f"t{number}" for number in range(100, 100 + SOURCE_TOKENS - 1)] + [END]

    def run(texts: int, beams: int) -> object:
        return translator.translate_batch(
            [source] * texts,
            beam_size=beams,
            min_decoding_length=LENGTH,
            max_decoding_length=LENGTH,
        )

    return run


def measured(ways: dict[str, Way]) -> dict[tuple[str, int, int], float]:
    """Return the best seconds of each way, for each number of texts and of beams."""
    best: dict[tuple[str, int, int], float] = {}
    for _ in range(ROUNDS + 1):  # the first one warms up
        for texts in BATCHES:
            for beams in BEAMS:
                for name, run in ways.items():
                    begun = time.process_time()
                    run(texts, beams)
                    spent = time.process_time() - begun
                    best[name, texts, beams] = min(spent, best.get((name, texts, beams), spent))
    return best


def per_text(seconds: dict[tuple[str, int, int], float], texts: int, beams: int) -> float:
    return seconds["transformers", texts, beams] / texts


def times_table(seconds: dict[tuple[str, int, int], float]) -> str:
    header = (
        "milliseconds for each text",
        *(f"{n} texts, {b} beams" for n in BATCHES for b in BEAMS),
    )
    names = dict.fromkeys(name for name, _, _ in seconds)
    rows = [
        (name, *(f"{1000 * seconds[name, n, b] / n:.0f}" for n in BATCHES for b in BEAMS))
        for name in names
    ]
    return table(header, rows)


def caption_seconds(folder: Path) -> float:
    """Return the time of one caption of BLIP-base in a batch."""
    folder.mkdir()
    random_models()["base"].write(folder)
    captioner = load_captioner(folder, Placement(torch.device("cpu"), "fp32"))
    pixels = np.zeros((IMAGES, *captioner.geometry.shape), dtype=np.uint8)
    generation = Generation(min_new_tokens=CAPTION_TOKENS, max_new_tokens=CAPTION_TOKENS)
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        captioner.caption(pixels, generation)
        times.append(time.process_time() - begun)
    return min(times) / IMAGES


if __name__ == "__main__":
    main(with_captioner="--no-captioner" not in sys.argv[1:])

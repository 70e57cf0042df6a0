"""Translation by Marian models, which transformers runs.

The import of this module takes longer than that of torch, so only its users import it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers.models.marian.modeling_marian import MarianMTModel
from transformers.utils.logging import disable_progress_bar

from captiond.captioners.devices import dtype_of
from captiond.captioners.families import model_type_of
from captiond.errors import CaptiondError, ModelBroken
from captiond.settings.config import Precision
from captiond.translation.pieces import MarianPieces
from captiond.translation.translator import TOO_LONG, Sentence

MODEL_TYPE = "marian"
TEXTS_AT_ONCE = 64
# A translation has rarely twice as many tokens as its text. One that has more does not end.
TOKENS_OF_A_TOKEN, FURTHER_TOKENS = 2, 10


class MarianTranslator:
    """A Marian model with its tokenizer."""

    def __init__(self, model: Any, pieces: MarianPieces, num_beams: int) -> None:
        self._model = model
        self._pieces = pieces
        self._num_beams = num_beams
        self._padding = int(model.config.pad_token_id)
        self._longest = int(model.config.max_position_embeddings)

    @classmethod
    def load(
        cls, folder: Path, language: str, device: torch.device, precision: Precision, beams: int
    ) -> Self:
        """Load the model in a folder, which is in the Hugging Face layout.

        On a CPU it computes in fp32. In bf16 the logits of a large vocabulary are rounded, and it
        takes little of the time.

        Raises:
            ModelBroken: the files do not make a Marian model that knows the language.
        """
        if (kind := model_type_of(folder)) != MODEL_TYPE:
            raise ModelBroken(
                f"{folder}: config.json has the model_type {kind!r}; captions are translated by "
                f"models of the type {MODEL_TYPE}"
            )
        pieces = MarianPieces.load(folder, language)
        dtype = torch.float32 if device.type == "cpu" else dtype_of(precision, device)
        model = read_model(folder, dtype)
        sizes = model.config.vocab_size, model.config.decoder_vocab_size
        if pieces.source_size > sizes[0] or pieces.target_size > (sizes[1] or sizes[0]):
            raise ModelBroken(f"{folder}: the vocabulary has more tokens than the model")
        return cls(torch.nn.Module.to(model, device), pieces, beams)

    def translate(self, texts: Sequence[str]) -> list[Sentence]:
        """Return the translation of each text."""
        encoded = [self._pieces.encode(text) for text in texts]
        fits = [number for number, ids in enumerate(encoded) if self._limit(ids) < self._longest]
        fits.sort(key=lambda number: len(encoded[number]))  # so that little is padded
        sentences = [TOO_LONG] * len(texts)
        for start in range(0, len(fits), TEXTS_AT_ONCE):
            some = fits[start : start + TEXTS_AT_ONCE]
            for number, sentence in zip(some, self._run([encoded[n] for n in some]), strict=True):
                sentences[number] = sentence
        return sentences

    def _limit(self, ids: list[int]) -> int:
        """Return how many tokens the translation of a text may have, with its end token."""
        return TOKENS_OF_A_TOKEN * len(ids) + FURTHER_TOKENS

    def _run(self, encoded: list[list[int]]) -> list[Sentence]:
        """Translate texts in one batch. Each is cut at its own limit, whatever the others need."""
        limits = [self._limit(ids) for ids in encoded]
        tokens = self._search(self._padded(encoded), max(limits))
        return [
            self._sentence(row, limit) for row, limit in zip(tokens.tolist(), limits, strict=True)
        ]

    def _padded(self, encoded: list[list[int]]) -> Tensor:
        width = max(map(len, encoded))
        rows = [ids + [self._padding] * (width - len(ids)) for ids in encoded]
        return torch.tensor(rows, device=self._model.device)  # [texts, width]

    @torch.inference_mode()
    def _search(self, ids: Tensor, longest: int) -> Tensor:
        """Return the tokens of the best translations, [texts, length], padded after their ends.

        A checkpoint may force the end token at the longest length, which would hide that a
        translation does not end by itself.
        """
        output: Tensor = self._model.generate(
            input_ids=ids,
            attention_mask=ids != self._padding,
            do_sample=False,
            num_beams=self._num_beams,
            num_return_sequences=1,
            max_length=None,
            max_new_tokens=longest,
            forced_eos_token_id=None,
            bad_words_ids=[[each] for each in self._pieces.never],
        )
        return output[:, 1:]  # the first token begins every translation

    def _sentence(self, tokens: list[int], limit: int) -> Sentence:
        ended = self._pieces.end in tokens[:limit]
        length = tokens.index(self._pieces.end) if ended else limit
        return Sentence(self._pieces.decode(tokens[:length]), ended)


def read_model(folder: Path, dtype: torch.dtype) -> Any:
    """Read the weights of a model. Pickles are read as weights only.

    Raises:
        ModelBroken: the files do not make a Marian model.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    kind: Any = MarianMTModel  # its types know only the call without a report
    try:
        model, report = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except CaptiondError:
        raise
    except Exception as error:  # the readers of the many formats raise anything
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelBroken(f"{folder}: cannot be loaded: {cause}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelBroken(f"{folder}: {missing[0]} is missing in the weights")
    return model.eval()

"""The tokens of Marian models: pieces of SentencePiece, numbered by the model's own vocabulary.

A model has one file of pieces for each of its two languages, and numbers those of both in
vocab.json, or each language in a file of its own.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captiond.errors import ModelBroken

SOURCE_FILE, TARGET_FILE = "source.spm", "target.spm"
VOCABULARY_FILE, TARGET_VOCABULARY_FILE = "vocab.json", "target_vocab.json"
END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"
NO_PACKAGE = (
    "translation needs the extra captiond[translation]: pip install 'captiond[translation]'"
)
# A model of several languages names them as ISO 639-3 does, or by two letters.
THREE_LETTERS = {
    "ar": "ara", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "es": "spa", "fi": "fin",
    "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn",
    "ko": "kor", "nl": "nld", "no": "nob", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sv": "swe", "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "cmn_Hans",
}  # fmt: skip


class MarianPieces:
    """Makes ids of English texts, and texts of ids.

    `prefix` are the tokens that choose the language of a model that knows several.
    """

    def __init__(
        self,
        processors: tuple[Any, Any],
        source: dict[str, int],
        target: dict[str, int],
        prefix: Sequence[int] = (),
    ) -> None:
        self._from, self._to = processors
        self._ids = source
        self._pieces = {number: piece for piece, number in target.items()}
        self._prefix = list(prefix)
        self._special = {target[END], target[UNKNOWN], target.get(PADDING, -1)}
        self.end = target[END]
        self.never = sorted(self._special - {self.end, -1})  # ids that say nothing
        # The ids of texts and of translations are below these numbers.
        self.source_size, self.target_size = max(source.values()) + 1, max(target.values()) + 1

    @classmethod
    def load(cls, folder: Path, language: str) -> "MarianPieces":
        """Read the files of a model.

        Raises:
            ModelBroken: a file is missing or damaged, or the model does not know the language.
        """
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise ModelBroken(NO_PACKAGE) from error
        try:
            source_file, target_file = (str(folder / name) for name in (SOURCE_FILE, TARGET_FILE))
            processors = (
                SentencePieceProcessor(model_file=source_file),
                SentencePieceProcessor(model_file=target_file),
            )
            source = json.loads((folder / VOCABULARY_FILE).read_text("utf-8"))
            own = folder / TARGET_VOCABULARY_FILE
            target = json.loads(own.read_text("utf-8")) if own.is_file() else source
            return cls(processors, source, target, prefix_of(source, language))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelBroken(f"{folder}: its vocabulary cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with the end token. Names of special tokens in it are text."""
        whole = text.encode(errors="replace").decode()  # a prompt may have half a surrogate pair
        unknown = self._ids[UNKNOWN]
        pieces = self._from.encode(whole, out_type=str)
        ids = (self._ids.get(piece, unknown) for piece in pieces)
        return [*self._prefix, *ids, self._ids[END]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        known = (self._pieces.get(each, "") for each in ids if each not in self._special)
        pieces = list(filter(None, known))  # a model may have more ids than its vocabulary
        text: str = self._to.decode(pieces)
        return " ".join(text.split())


def prefix_of(vocabulary: dict[str, int], language: str) -> list[int]:
    """Return the token that chooses a language. A model of one language needs none.

    Raises:
        ModelBroken: the model knows several languages, and not this one.
    """
    codes = [piece for piece in vocabulary if piece.startswith(">>") and piece.endswith("<<")]
    if not codes:
        return []
    names = (language.replace("-", "_"), THREE_LETTERS.get(language.partition("-")[0], language))
    for name in names:
        for code in codes:
            if code.casefold() == f">>{name}<<".casefold():
                return [vocabulary[code]]
    known = ", ".join(code.strip("<>") for code in codes[:20])
    raise ModelBroken(f"the model has no language {language}; it has {known}")

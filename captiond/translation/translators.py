"""The translators of the settings. One that cannot be used leaves captions in English."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import torch

from captiond.captioners.files import fingerprint, locate_further
from captiond.captioners.memory import raising_out_of_memory
from captiond.errors import CaptiondError, OutOfMemory
from captiond.settings.config import Precision, Settings
from captiond.translation.translator import Sentence, Translator

# This number is part of the key of a cached caption. Raise it with each change of the search or of
# `is_degenerate`.
RULES_VERSION = 1
SAMPLE = "a red car"
log = structlog.get_logger()


@dataclass
class Translators:
    """One translator for each language, by its code.

    A language whose model is not usable is in `unavailable`, with the reason. `_marks` has the
    fingerprints of the others.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    _marks: dict[str, str] = field(default_factory=dict)
    _loaded: dict[str, Translator] = field(default_factory=dict)

    @classmethod
    def find(
        cls, settings: Settings, notes: Path | None = None, *, download: bool
    ) -> "Translators":
        """Find the models of the settings on disk. With `download`, fetch those that are not there.

        `notes` is a file that remembers the hashes of model files.
        """
        found, beams = cls(), settings.translation.num_beams
        for language, name in settings.translation.models.items():
            try:
                folder = locate_further(settings, name, download=download)
                mark = f"{fingerprint(folder, notes)} {beams} {RULES_VERSION}"
            except CaptiondError as error:
                found.give_up(language, str(error))
            else:
                found.folders[language], found._marks[language] = folder, mark
        return found

    def give_up(self, language: str, reason: str) -> None:
        """Note that captions cannot be translated into a language."""
        self.unavailable[language] = reason
        self._loaded.pop(language, None)
        log.error("translation_unavailable", language=language, reason=reason)

    def fingerprint(self, language: str) -> str | None:
        """Return what stands for the translations into a language, or None if there are none."""
        return None if language in self.unavailable else self._marks.get(language)

    def load(self, device: torch.device, precision: Precision, num_beams: int) -> None:
        """Load each model, and run it once. Blocking."""
        for language, folder in self.folders.items():
            try:
                with raising_out_of_memory():
                    translator = load_translator(folder, language, device, precision, num_beams)
                    translator.translate([SAMPLE])
            except CaptiondError as error:
                self.give_up(language, str(error))
            # A driver or a damaged file may raise anything, and captions go on in English.
            except Exception as error:
                log.exception("translation_not_started", language=language)
                self.give_up(language, f"{folder}: {type(error).__name__}: {error}")
            else:
                self._loaded[language] = translator

    def translate(self, texts: Sequence[str], language: str) -> list[Sentence | None]:
        """Return the translation of each text, or None for one that the machine cannot translate.

        Texts that do not fit into memory are halved.
        """
        translator = self._loaded.get(language)
        if translator is None or not texts:
            return [None] * len(texts)
        try:
            with raising_out_of_memory():
                return list(translator.translate(texts))
        except OutOfMemory as error:
            log.warning("translation_out_of_memory", texts=len(texts), reason=str(error))
        # The client still gets the caption, in English. If the device is broken, the captioner
        # fails next, and the process is replaced.
        except Exception:
            log.exception("translation_failed", texts=len(texts), language=language)
        if len(texts) == 1:
            return [None]
        half = len(texts) // 2
        first = self.translate(texts[:half], language)
        return [*first, *self.translate(texts[half:], language)]


def load_translator(
    folder: Path, language: str, device: torch.device, precision: Precision, num_beams: int
) -> Translator:
    """Load the model in a folder. The import of transformers takes seconds, so it is done here.

    Raises:
        ModelBroken: the files do not make a model that translates into the language.
    """
    from captiond.translation.marian import MarianTranslator

    return MarianTranslator.load(folder, language, device, precision, num_beams)

"""The tagger of a model process: captions in, tags out, and never an error for the client."""

from collections.abc import Sequence
from typing import Self

import structlog
from spacy.language import Language

from captiond.tagging.extract import tags
from captiond.tagging.pipelines import fingerprint, load_pipeline

log = structlog.get_logger()
MAX_CHARACTERS = 1000  # of a caption; what stands beyond is not tagged


class Tagger:
    """A loaded pipeline. `failures` counts the captions that could not be tagged."""

    def __init__(self, nlp: Language, fingerprint: str) -> None:
        self._nlp = nlp
        self.fingerprint = fingerprint
        self.failures = 0

    @classmethod
    def load(cls, name: str) -> Self:
        """Load a pipeline by its name.

        Raises:
            ModelMissing, ModelBroken: it is not there, or cannot be loaded.
        """
        nlp = load_pipeline(name)
        return cls(nlp, fingerprint(name, nlp))

    def tags(self, captions: Sequence[str | None]) -> list[list[str]]:
        """The sorted tags of each caption; none for one that is blank or cannot be tagged."""
        texts = [(caption or "")[:MAX_CHARACTERS].strip() for caption in captions]
        asked = [text for text in texts if text]
        try:
            found = self._tags(asked)
        except Exception:  # a pipeline may raise anything; one by one, only the culprit is lost
            log.exception("tagging_failed_for_batch", captions=len(asked))
            found = [self._tags_of_one(text) for text in asked]
        answers = iter(found)
        return [next(answers) if text else [] for text in texts]

    def _tags(self, texts: list[str]) -> list[list[str]]:
        # Without the zone every new word would stay in the pipeline's vocabulary for good.
        with self._nlp.memory_zone():
            return [tags(doc) for doc in self._nlp.pipe(texts)]

    def _tags_of_one(self, text: str) -> list[str]:
        try:
            return self._tags([text])[0]
        except Exception:  # as above: the caption still comes, without tags
            self.failures += 1
            log.exception("tagging_failed", caption=text)
            return []

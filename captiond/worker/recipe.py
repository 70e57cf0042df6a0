"""What determines a caption besides the image: the model, the taggers and the options. Pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from captiond.jobs import ENGLISH, NO_CONTEXT, Captioned, Generation
from captiond.messages import Work
from captiond.tagging.vocabulary_tags import tags_of_request
from captiond.tags import TagFilter
from captiond.translation.dictionary import TagDictionary
from captiond.translation.translated_result import in_its_language
from captiond.translation.translations import UNAVAILABLE
from captiond.vocabulary import TEMPLATE, Template, Vocabulary

# These fields were part of the cache's keys from the beginning, also with their default values.
FIRST_FIELDS = frozenset(
    {
        "max_new_tokens",
        "min_new_tokens",
        "num_beams",
        "num_captions",
        "prompt",
        "repetition_penalty",
    }
)


NO_DICTIONARY = TagDictionary()
NO_VOCABULARY = Vocabulary((), Template.parse(TEMPLATE), 0.0)


@dataclass(frozen=True)
class Recipe:
    """What all captions of this process have in common.

    `fingerprint` stands for the model's files, its precision and the way images are decoded.
    `tagger_fingerprint` returns the same for the tagger of a language. `defaults` and `wanted`
    apply to requests that ask for nothing in particular. `cached` says whether there is a cache.
    The tags of `vocabulary`, or those of a request, are scored against each image.
    An alternative text says that it may be wrong if the confidence is below `hedge_below`.
    `uses_context` says whether the captioner uses the context of a request.

    Captions are in the `language` if a request does not choose another one.
    `translator_fingerprint` returns what stands for the translator of a language, or None if there
    is none that works. Tags are translated by `dictionaries`.
    """

    model: str
    fingerprint: str
    tagger_fingerprint: Callable[[str | None], str]
    defaults: Generation
    wanted: TagFilter
    cached: bool
    hedge_below: float = 0.0
    uses_context: bool = True
    vocabulary: Vocabulary = NO_VOCABULARY
    language: str = ENGLISH
    translator_fingerprint: Callable[[str], str | None] = lambda _: None
    dictionaries: Mapping[str, TagDictionary] = field(default_factory=dict)

    def language_asked_by(self, work: Work) -> str | None:
        """Return the language of captions that this work asks for; None is English."""
        language = work.options.caption_language or self.language
        return None if language == ENGLISH else language

    def language_of(self, work: Work) -> str | None:
        """Return the language that the captions of this work are translated into, if any."""
        language = self.language_asked_by(work)
        return language if language and self.translator_fingerprint(language) else None

    def tag_language_of(self, work: Work) -> str | None:
        """Return the language of the tagger. Tags of translated captions are made in English."""
        return ENGLISH if self.language_of(work) else work.options.language

    def cost_of(self, work: Work) -> float:
        """Return the estimated cost of the captions of this work."""
        options = work.options
        if self.language_of(work) != self.language_asked_by(work):  # nothing can translate them
            options = replace(options, caption_language=ENGLISH)
        return options.cost(self.defaults, self.language)

    def generation_of(self, work: Work) -> Generation:
        """Return how the caption of this work is searched for."""
        generation = self._asked_by(work)
        if generation.context and not self.uses_context:
            # It would part a batch, and the captions in the cache, for nothing.
            return replace(generation, context="")
        return generation

    def _asked_by(self, work: Work) -> Generation:
        return work.options.generation or self.defaults

    def vocabulary_of(self, generation: Generation) -> Vocabulary | None:
        """Return the vocabulary for captions of this kind: the request's, or else the settings'."""
        vocabulary = self.vocabulary
        if generation.vocabulary:
            vocabulary = replace(vocabulary, tags=tags_of_request(generation.vocabulary))
        if generation.vocabulary_threshold is not None:
            vocabulary = replace(vocabulary, threshold=generation.vocabulary_threshold)
        return vocabulary if vocabulary.tags else None

    def english_key(self, work: Work) -> str:
        """Return the cache key of the same caption in English, from which it can be translated."""
        options = replace(work.options, caption_language=ENGLISH, language=ENGLISH)
        return self.cache_key(replace(work, options=options))

    def is_cacheable(self, work: Work) -> bool:
        """Return whether the cache may answer this work, and may store its caption."""
        return self.cached and not work.options.no_cache and not work.alone

    def cache_key(self, work: Work) -> str:
        """Return the part of a cache key that does not depend on the image's bytes.

        Each key of a client has its own captions, so that neither `cached` nor the time of a
        response shows what another client has sent.
        """
        generation = self.generation_of(work)
        tagger = self.tagger_fingerprint(self.tag_language_of(work))
        vocabulary = ""
        if generation.vocabulary:
            vocabulary = "\0vocabulary=" + replace(self.vocabulary, tags=()).fingerprint
        elif self.vocabulary.tags:
            vocabulary = "\0vocabulary=" + self._vocabulary_fingerprint
        if language := self.language_of(work):
            vocabulary += f"\0{language}={self.translator_fingerprint(language)}"
        # guard: cache-of-each-key
        owner = f"\0{work.client.name}" if work.client.has_key else ""
        return f"{self.fingerprint}\0{generation_key(generation)}\0{tagger}{vocabulary}{owner}"

    @cached_property
    def _vocabulary_fingerprint(self) -> str:
        return self.vocabulary.fingerprint

    def selected(self, whole: Captioned, work: Work) -> Captioned:
        """Return a caption with only those of its tags that the request wants, in its language.

        Its alternative text follows from the caption and the settings, so it needs no place in the
        cache. The filters of tags compare English tags.
        """
        notes = whole.notes
        if self._asked_by(work).context and not self.uses_context:
            notes = (*notes, NO_CONTEXT)
        if self.language_asked_by(work) and not self.language_of(work):
            notes = tuple(dict.fromkeys((*notes, UNAVAILABLE)))
        wanted = self.wanted.narrowed(work.options.tags)
        selected = whole.with_tags(whole.tag_details, wanted)
        if notes != whole.notes:
            selected = replace(selected, notes=notes)
        dictionary = self.dictionaries.get(whole.caption_language or ENGLISH, NO_DICTIONARY)
        return in_its_language(selected, dictionary, self.hedge_below)


def recipe_fingerprint(*parts: str) -> str:
    """Return a hash of everything that `Recipe.fingerprint` stands for."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def generation_key(generation: Generation) -> str:
    """Return text that is equal for options that give the same captions.

    A field that is added to `Generation` later is left out while it has its default, so that the
    captions that are stored already keep their keys.
    """
    defaults = asdict(type(generation)())
    values = {
        name: value
        for name, value in asdict(generation).items()
        if name in FIRST_FIELDS or value != defaults[name]
    }
    return str(sorted(values.items()))

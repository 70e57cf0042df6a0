"""The options of a request, as keyword arguments of the clients' methods."""

from collections.abc import Sequence
from typing import TypedDict


class CaptionOptions(TypedDict, total=False):
    """What a request may ask for. An option that is not given is left to the service's settings.

    docs/captions.md and docs/tags.md explain the options.
    """

    prompt: str
    num_beams: int
    max_new_tokens: int
    min_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    context: str
    num_captions: int
    rerank: bool
    no_cache: bool
    language: str
    caption_language: str
    vocabulary: Sequence[str]
    vocabulary_threshold: float
    tag_kinds: Sequence[str]
    tag_categories: Sequence[str]
    tag_deny: Sequence[str]
    tag_allow: Sequence[str]
    tag_min_length: int
    tag_max_number: int

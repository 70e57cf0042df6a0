"""What a captioner is: pixels in, captions out.

The worker, the bench and the commands know captioners only by these protocols. `families` has the
table from which the captioner of a checkpoint is chosen.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from captiond.captioners.arithmetic import Arithmetic
from captiond.captioners.choices import Choices
from captiond.captioners.devices import BatchPixels
from captiond.decoding.geometry import Geometry, Pixels
from captiond.jobs import Caption, Generation
from captiond.settings.config import Precision
from captiond.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a captioner can do beyond one caption for each image."""

    prompt: bool = False  # continue a given beginning
    beams: bool = False  # search with more than one beam
    scores: bool = False  # say how likely a caption is
    several_captions: bool = False  # return more than the best caption
    vocabulary: bool = False  # score the tags of a vocabulary
    matching: bool = False  # say whether a text fits an image
    context: bool = False  # use what is known about the image; otherwise it is ignored

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The names of the request options that this captioner cannot serve."""
        offered = {
            "prompt": self.prompt,
            "num_beams": self.beams,
            "num_captions": self.several_captions,
            "context": self.context,
            "vocabulary": self.vocabulary,
            "vocabulary_threshold": self.vocabulary,
            "rerank": self.matching,
        }
        return tuple(name for name, offers in offered.items() if not offers)

    def missing_for(self, generation: Generation) -> str | None:
        """Return which option of a request this captioner cannot serve, or None if it can."""
        if generation.prompt and not self.prompt:
            return "prompt"
        if generation.num_beams > 1 and not self.beams:
            return "num_beams"
        if generation.num_captions > 1 and not self.several_captions:
            return "num_captions"
        if generation.vocabulary and not self.vocabulary:
            return "vocabulary"
        if generation.rerank and not self.matching:
            return "rerank"
        return None


class Captioner(Protocol):
    """A model that is loaded on a device. It is used by one thread at a time."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def geometry(self) -> Geometry:
        """The size of its input images, and how images are resampled to it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def precision(self) -> Precision:
        """In which precision its weights are multiplied."""

    @property
    def image_bytes(self) -> int:
        """The device memory that one image of a batch takes, in bytes."""

    def allocate_pixels(self, images: int) -> Pixels:
        """Return a buffer for the pixels of a batch, uint8 [images, height, width, 3]."""

    def caption(
        self, pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None = None
    ) -> list[tuple[Caption, ...]]:
        """Return the captions of a batch, best first for each image.

        The pixels are uint8 [images, height, width, 3]: on the host, or on this device already.

        The best caption of an image has the tags of the vocabulary whose scores are at least their
        thresholds, in the order of their scores.

        Raises:
            torch.OutOfMemoryError: the device has too little memory for the batch.
        """


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a captioner is loaded."""

    device: torch.device
    precision: Precision
    cuda_graphs: bool = True
    choices: Choices | None = None  # None: the defaults of the precision
    matcher: Path | None = None  # the folder of a model for image-text matching


TokenRun = Callable[[Tensor, int], Tensor]
# of pixels and a number of new tokens; returns token ids [images, length], padded after their end


@dataclass(frozen=True)
class Comparison:
    """One model twice, for `captiond bench`: run by captiond, and by transformers' `generate`.

    `normalize` makes of pixels, uint8 [images, height, width, 3], what `generate` takes.
    """

    captioner: Captioner
    captiond: TokenRun  # of pixels as they are decoded
    generate: TokenRun  # of normalized pixels
    normalize: Callable[[Pixels], Tensor]
    padding: int  # the id of the padding token
    arithmetic: Arithmetic


Run = Callable[[], Tensor]


class Probe(Protocol):
    """A small model with layers of a real model's sizes, in which the ways are measured."""

    @property
    def patches(self) -> int:
        """The number of patches of an image, as `Choices.rows` counts them."""

    @property
    def vision_layers(self) -> int:
        """The number of layers of the real vision transformer, of which a run has one."""

    @property
    def text_layers(self) -> int:
        """The number of layers of the real text decoder, of which a run has one."""

    def encode(self, precision: Precision, choices: Choices, images: int) -> Run:
        """Return a run that encodes some images."""

    def decode(self, precision: Precision, choices: Choices, images: int, tokens: int) -> Run:
        """Return a run that decodes captions of some images."""

    def release(self) -> None:
        """Release the memory of the runs so far."""


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A model of random weights, which takes the time that a real model of its size takes."""

    title: str
    write: Callable[[Path], None]  # into a folder, in the Hugging Face layout


@dataclass(frozen=True)
class Family:
    """All that captiond knows about one kind of model.

    `load` and `compare` raise ModelBroken if the files cannot be loaded. `random_models` are those
    that `captiond bench --shape` can name. `probe` returns None for a model that needs no choices.
    `uses_context` is what the capabilities of its captioners say: known captions are looked up
    before a captioner is loaded, by all that they depend on. `invented_words` returns those that
    the setting `captions.ban_hallucinations` bans.
    """

    load: Callable[[Path, Placement], Captioner]
    compare: Callable[[Path, Placement], Comparison] | None = None
    probe: Callable[[Path, Placement], Probe | None] | None = None
    random_models: Mapping[str, RandomModel] = field(default_factory=dict)
    uses_context: bool = False
    invented_words: Callable[[], Iterable[str]] = tuple

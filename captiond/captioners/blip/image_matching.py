"""Image-text matching beside a captioner: with the captioner's encoding of an image, or its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from captiond.captioners.blip.matching import Matcher
from captiond.errors import ModelBroken

Encode = Callable[[Tensor], Tensor]  # of pixels, uint8 [images, height, width, 3]


class ImageTextMatching:
    """Scores texts for the images of a batch.

    `encode` returns the image features of pixels. It is None if those of the captioner are used.
    """

    def __init__(self, matcher: Matcher, encode: Encode | None) -> None:
        self._matcher, self._encode = matcher, encode

    @property
    def shares_encoding(self) -> bool:
        """Whether the captioner's encoding of an image is used."""
        return self._encode is None

    def scores(
        self, pixels: Tensor, features: Tensor | None, texts: Sequence[Sequence[str]]
    ) -> Tensor:
        """Return the scores of as many texts for each image, float32 [images, texts], in nats.

        `pixels` are uint8 [images, height, width, 3], and `features` the captioner's.
        """
        if self._encode is not None:
            features = self._encode(pixels)
        assert features is not None  # only captiond's own search shares them, and it keeps them
        return self._matcher.of_each(features, texts)


def check_size(processor: Any, captioner: Any, folder: Path) -> None:
    """Return if a matching model takes images of the captioner's size, by their processors.

    Raises:
        ModelBroken: it does not.
    """
    if processor.size != captioner.size:
        raise ModelBroken(
            f"{folder}: this matching model takes images of the size {processor.size}, the "
            f"captioner takes {captioner.size}; both must take the same size"
        )

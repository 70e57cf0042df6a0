"""Encoders that do not encode the same pixels again, for tests that compare what is written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.forward import USUAL, Forward
from captiond.captioners.choices import Choices
from captiond.captioners.linear import MakeLinear


class EncodingOnce(Forward):
    """A forward pass that does not encode the same pixels again.

    All passes of a model that encode in the same way share the features.
    """

    features: ClassVar[dict[tuple[object, ...], torch.Tensor]] = {}

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        make: MakeLinear,
        *,
        absorb: bool,
        choices: Choices = USUAL,
    ) -> None:
        super().__init__(deepcopy(model), make, rows=128, absorb=absorb, choices=choices)
        self._way = (model, make, choices)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._once(super().encode, pixels)

    def encode_chunk(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._once(super().encode_chunk, pixels)

    def _once(
        self, encode: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor
    ) -> torch.Tensor:
        key = (*self._way, encode.__name__, pixels.numpy().tobytes())
        if key not in self.features:
            self.features[key] = encode(pixels)
        return self.features[key]


_encoded: dict[tuple[object, bytes], Any] = {}


@contextmanager
def encoding_once(encoder: Any, pixels: torch.Tensor) -> Iterator[None]:
    """Let an encoder of transformers not encode the same pixels again."""
    encode, key = encoder.forward, (encoder, pixels.numpy().tobytes())

    def forward(*args: Any, **how: Any) -> Any:
        if key not in _encoded:
            _encoded[key] = encode(*args, **how)
        return _encoded[key]

    with patch.object(encoder, "forward", forward):
        yield

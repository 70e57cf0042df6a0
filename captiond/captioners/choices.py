"""How a captioner computes, where several ways give the same captions.

Which way is the fastest depends on the processor, so the ways are measured (`tuning`). This module
only names them. It needs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from captiond.settings.config import Precision

LinearWay = Literal["onednn", "mkl"]
AttentionWay = Literal["heads", "fused"]
CrossWay = Literal["packed", "fused", "keys"]
LINEAR: tuple[LinearWay, ...] = ("onednn", "mkl")
ATTENTION: tuple[AttentionWay, ...] = ("heads", "fused")
CROSS: tuple[CrossWay, ...] = ("packed", "fused", "keys")
ROWS = (640, 1200)  # one and two images of 577 patches


@dataclass(frozen=True, slots=True)
class Choices:
    """The ways that a captioner on a CPU uses. The defaults are good on most processors."""

    image_linear: LinearWay = "onednn"  # linear layers of the vision transformer
    text_linear: LinearWay = "onednn"  # linear layers of the text decoder
    attention: AttentionWay = "heads"  # self-attention of images
    # Cross-attention: to packed features (integers in int8), to features, or to keys and values.
    cross: CrossWay = "packed"
    rows: int = ROWS[0]  # patches that go through the vision transformer at a time


def default_choices(precision: Precision) -> Choices:
    """Return the choices for a machine that has not been measured."""
    if precision == "bf16":  # its keys and values take half of the memory of fp32
        return Choices(attention="fused", cross="keys")
    return Choices()


def with_rows(choices: Choices, rows: int) -> Choices:
    return replace(choices, rows=rows)


def as_values(choices: Choices) -> Mapping[str, str | int]:
    """Return choices as plain values, for the log and for messages."""
    return asdict(choices)

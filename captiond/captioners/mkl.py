"""Linear layers by MKL with packed weights, in fp32.

On Intel's processors MKL's product is faster than oneDNN's for the rows of one image, and as fast
for the rows of a token step. On others it may take several times as long, so `tuning` measures it.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import linear

PACKED_ROWS = 577  # of one image
CHECKED_ROWS = (*range(1, 17), 33, PACKED_ROWS, 2 * PACKED_ROWS)
CHECKED_SHAPES = ((1024, 768), (256, 3072))  # of weights [out, in]
TOLERANCE, ATOL = 1e-4, 1e-3  # the results are around 50


class MklLinear:
    """y = activation(x W + b) + residual, over the last dimension of x.

    MKL documents that weights are packed for one number of rows. The packed weights are the same
    for every number of rows, and `usable` checks that before this class is used.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, activation: str = "none", inputs: str = "any"
    ) -> None:
        self._packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, PACKED_ROWS)
        # The operator reads the shape of the unpacked weight only, so it gets no memory of its own.
        self._shape = weight.new_empty(1).expand(weight.shape)
        self._bias, self._activation = bias, activation
        self._product = torch.ops.mkl._mkl_linear

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        rows = x.numel() // x.shape[-1]
        y: Tensor = self._product(x, self._packed, self._shape, self._bias, rows)
        if self._activation == "gelu":
            y = torch.ops.aten.gelu_(y)
        return y if residual is None else y.add_(residual)


@cache
def usable() -> bool:
    """Return whether torch has MKL, and its packed product is right for any number of rows."""
    available: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(torch.ops.mkl, "_mkl_linear")):
        return False
    return all(is_right(shape) for shape in CHECKED_SHAPES)


def is_right(shape: tuple[int, int]) -> bool:
    """Return whether the packed product of a weight of this shape is right for all checked rows.

    The rows of token steps are checked one by one: each of them may have a kernel of its own.
    """
    generator = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(size, generator=generator) for size in (shape, shape[:1]))
    packed = MklLinear(weight, bias)
    inputs = torch.randn(max(CHECKED_ROWS), shape[1], generator=generator)
    expected = linear(inputs, weight, bias)
    return all(
        torch.allclose(packed(inputs[:rows]), expected[:rows], rtol=TOLERANCE, atol=ATOL)
        for rows in CHECKED_ROWS
    )

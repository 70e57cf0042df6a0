"""The best rates of the machine: matrix products, and bytes read and written."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import linear

from captiond.bench.cases import Case, CaseKind
from captiond.captioners.devices import DTYPES, has_fp8
from captiond.captioners.fp8 import Fp8Linear, to_fp8
from captiond.captioners.linear import Int8Linear, PackedLinear, WidenedLinear, quantize_rows
from captiond.captioners.quantization import image_linears
from captiond.settings.config import Precision

Product = Callable[[], Tensor]
Shapes = tuple[tuple[int, int, int], ...]
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("fp32", "bf16", "int8"),
    "cuda": ("fp32", "bf16", "fp16"),
}
REPEATS = {"cpu": 1, "cuda": 20}
COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes


def shapes(device: torch.device) -> Shapes:
    """Return rows, input width and output width: the largest of BLIP-base, and a larger one."""
    if device.type == "cpu":
        return (8 * 577, 768, 3072), (8 * 577, 3072, 768), (2048, 4096, 4096)
    return (64 * 577, 768, 3072), (64 * 577, 3072, 768), (8192, 8192, 8192)


def other_product_cases(device: torch.device, precision: Precision) -> Iterator[Case]:
    """Yield the first shape in the other precisions of a device, each in its fastest way."""
    others = (*PRECISIONS[device.type], *(("fp8",) if has_fp8(device) else ()))
    for other in others:
        if other != precision:
            *_, fastest = product_cases(device, other, shapes(device)[:1])
            yield fastest


def product_cases(
    device: torch.device, precision: Precision, sizes: Shapes | None = None
) -> Iterator[Case]:
    """Yield products of these sizes, or of all `shapes`, each as torch and captiond compute it."""
    repeats = REPEATS[device.type]
    for rows, before, after in sizes or shapes(device):
        flop = 2.0 * rows * before * after * repeats
        for name, product in products(device, precision, rows, before, after):
            run = repeated(product, repeats, device)
            title = f"{name} {rows} x {before} x {after}"
            yield Case(CaseKind.PRODUCT, title, flop, run, precision)


def products(
    device: torch.device, precision: Precision, rows: int, before: int, after: int
) -> Iterator[tuple[str, Product]]:
    """Yield the same product as torch computes it, and as captiond computes it."""

    def random(*size: int) -> Tensor:
        return torch.randn(size, device=device, dtype=DTYPES[precision])

    inputs, weight, bias = random(rows, before), random(after, before), random(after)
    yield "linear", lambda: linear(inputs, weight, bias)
    ours = image_linears(precision, device)(weight, bias, "none")
    if isinstance(ours, Int8Linear):
        quantized = quantize_rows(inputs.float())
        yield "8-bit linear", lambda: ours.product(quantized.integers, quantized.zero)
    elif isinstance(ours, Fp8Linear):
        stored = to_fp8(inputs, "any")
        yield "FP8 linear", lambda: ours(stored)
    elif isinstance(ours, PackedLinear | WidenedLinear):
        yield "packed linear", lambda: ours(inputs)


def memory_cases(device: torch.device) -> Iterator[Case]:
    """Yield a copy, which reads and writes bytes, and a sum, which reads them."""
    source = torch.ones(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    size, repeats = source.nbytes, REPEATS[device.type]
    ways = (("copy", 2, lambda: target.copy_(source)), ("sum", 1, source.sum))
    for name, times, way in ways:
        run = repeated(way, repeats, device)
        yield Case(
            CaseKind.MEMORY, f"{name} of {size >> 20} MiB", float(times * size * repeats), run
        )


def repeated(way: Product, repeats: int, device: torch.device) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        for _ in range(repeats):
            way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run

"""Compare the speed of captiond's vision encoder with other runtimes on a CPU.

pip install openvino onnxruntime onnx
python -m tools.runtimes [BATCH...]

The vision encoder takes most of an image's time on a CPU. The model has BLIP-base's shape at
384 x 384 and random weights. In each round, every runtime encodes the same pixels. The table has
the median time of an image in milliseconds, and the largest difference of a runtime's output from
that of transformers in fp32. Runtimes that are not installed are left out.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import BlipForConditionalGeneration

from captiond.captioners.blip.captioner import CPU_ROWS
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.random_weights import SIDE, config_of
from captiond.captioners.devices import DTYPES
from captiond.captioners.linear import linears
from captiond.config import Precision

Encode = Callable[[Tensor], Tensor]  # [images, 3, height, width] → [images, 1 + patches, width]
Runtimes = dict[str, Encode]
ROUNDS = 9
CPU = torch.device("cpu")


class Encoder(nn.Module):
    """The vision encoder of transformers, with one input and one output."""

    def __init__(self, model: BlipForConditionalGeneration) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return hidden


def new_model() -> BlipForConditionalGeneration:
    """Return a model of BLIP-base's shape; its random weights are the same in each call."""
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config_of("base"))
    model.train(mode=False)
    return model


def captiond_runtimes() -> Iterator[tuple[str, Encode]]:
    """Yield captiond's vision encoder in each precision that a CPU has."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    for precision in precisions:
        model = new_model().to(DTYPES[precision])  # type: ignore[arg-type]  # nn.Module's own
        forward = Forward(model, linears(precision, CPU), rows=CPU_ROWS)
        yield f"captiond {precision}", in_dtype(forward.encode, DTYPES[precision])


def in_dtype(encode: Encode, dtype: torch.dtype) -> Encode:
    """Return an encoder that takes and returns fp32 and computes in `dtype`."""
    return lambda pixels: encode(pixels.to(dtype)).float()


def compiled_runtime() -> Iterator[tuple[str, Encode]]:
    """Yield the encoder of transformers, compiled by torch."""
    import torch._inductor.config as inductor

    inductor.freezing = True  # packs the weights for oneDNN, as captiond does
    yield "torch.compile fp32", torch.compile(Encoder(new_model()), dynamic=False)


def openvino_runtimes() -> Iterator[tuple[str, Encode]]:
    """Yield the encoder in OpenVINO, in fp32 and bf16."""
    import openvino

    model = openvino.convert_model(
        Encoder(new_model()), example_input=torch.zeros(2, 3, SIDE, SIDE)
    )
    for precision in ("f32", "bf16"):
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled: Any = openvino.compile_model(model, "CPU", hints)
        yield f"OpenVINO {precision}", as_torch(partial(openvino_run, compiled))


def onnx_runtimes(folder: Path) -> Iterator[tuple[str, Encode]]:
    """Yield the encoder in ONNX Runtime, in fp32 and int8. The models are written to `folder`."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, quantized = folder / "encoder.onnx", folder / "int8.onnx"
    torch.onnx.export(
        Encoder(new_model()),
        (torch.zeros(2, 3, SIDE, SIDE),),
        plain,
        input_names=["pixels"],
        dynamic_axes={"pixels": {0: "images"}},
        dynamo=False,
    )
    quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    for name, path in (("fp32", plain), ("int8", quantized)):
        session: Any = onnxruntime.InferenceSession(path, options)
        yield f"ONNX Runtime {name}", as_torch(partial(onnx_run, session))


def openvino_run(compiled: Any, pixels: Any) -> Any:
    """Return the output of a compiled OpenVINO model for an array of pixels."""
    return compiled(pixels)[0]


def onnx_run(session: Any, pixels: Any) -> Any:
    """Return the output of an ONNX Runtime session for an array of pixels."""
    return session.run(None, {"pixels": pixels})[0]


def as_torch(run: Callable[[Any], Any]) -> Encode:
    """Return an encoder of tensors from a function of NumPy arrays."""
    return lambda pixels: torch.from_numpy(run(pixels.numpy()))


def all_runtimes(folder: Path) -> Runtimes:
    """Return the encoders of every installed runtime. The encoder of transformers is the first."""
    runtimes: Runtimes = {"transformers fp32": Encoder(new_model())}
    runtimes |= dict(captiond_runtimes()) | dict(compiled_runtime())
    if find_spec("openvino"):
        runtimes |= dict(openvino_runtimes())
    if find_spec("onnxruntime") and find_spec("onnx"):
        runtimes |= dict(onnx_runtimes(folder))
    return runtimes


@torch.inference_mode()
def milliseconds(runtimes: Runtimes, pixels: Tensor) -> dict[str, float]:
    """Return the median time of an image in each runtime."""
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(1 + ROUNDS):
        for name, encode in runtimes.items():
            begun = time.perf_counter()
            encode(pixels)
            times[name].append((time.perf_counter() - begun) * 1000 / len(pixels))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


@torch.inference_mode()
def distances(runtimes: Runtimes, pixels: Tensor) -> dict[str, float]:
    """Return the largest difference of each runtime's output from that of the first runtime."""
    reference, *_ = (encode(pixels) for encode in runtimes.values())
    return {
        name: (encode(pixels) - reference).abs().max().item() for name, encode in runtimes.items()
    }


def main(sizes: list[int]) -> None:
    """Measure every installed runtime with batches of these sizes, and print the table."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    console = Console()
    with TemporaryDirectory() as folder, console.status("making and measuring the encoders"):
        runtimes = all_runtimes(Path(folder))
        batches = {size: torch.randn(size, 3, SIDE, SIDE) for size in sizes}
        figures = {size: milliseconds(runtimes, pixels) for size, pixels in batches.items()}
        differences = distances(runtimes, batches[sizes[0]])
    table = Table("ms per image, batch of", *map(str, sizes), "largest difference")
    for name in runtimes:
        cells = (f"{figures[size][name]:.0f}" for size in sizes)
        table.add_row(name, *cells, f"{differences[name]:.1e}")
    console.print(table)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1, 4, 8])

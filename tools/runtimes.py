"""captiond's vision encoder beside other runtimes' on a CPU, where most of an image's time goes.

pip install openvino onnxruntime onnx
python -m tools.runtimes [BATCH...]

BLIP-base's shape at 384 x 384 with random weights; every arm takes the same pixels, in turn, round
after round. The table has the median milliseconds an image, and how far an arm's numbers are from
those of transformers in fp32. What is not installed is left out.
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
Arms = dict[str, Encode]
ROUNDS = 9
CPU = torch.device("cpu")


class Encoder(nn.Module):
    """transformers' own, with one input and one output."""

    def __init__(self, model: BlipForConditionalGeneration) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        seen: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return seen


def new_model() -> BlipForConditionalGeneration:
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config_of("base"))
    model.train(mode=False)
    return model


def captiond_arms() -> Iterator[tuple[str, Encode]]:
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    for precision in precisions:
        model = new_model().to(DTYPES[precision])  # type: ignore[arg-type]  # nn.Module's own
        forward = Forward(model, linears(precision, CPU), rows=CPU_ROWS)
        yield f"captiond {precision}", in_dtype(forward.encode, DTYPES[precision])


def in_dtype(encode: Encode, dtype: torch.dtype) -> Encode:
    return lambda pixels: encode(pixels.to(dtype)).float()


def compiled_arm() -> Iterator[tuple[str, Encode]]:
    import torch._inductor.config as inductor

    inductor.freezing = True  # weights packed for oneDNN, as captiond's are
    yield "torch.compile fp32", torch.compile(Encoder(new_model()), dynamic=False)


def openvino_arms() -> Iterator[tuple[str, Encode]]:
    import openvino

    model = openvino.convert_model(
        Encoder(new_model()), example_input=torch.zeros(2, 3, SIDE, SIDE)
    )
    for precision in ("f32", "bf16"):
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled: Any = openvino.compile_model(model, "CPU", hints)
        yield f"OpenVINO {precision}", as_torch(partial(openvino_run, compiled))


def onnx_arms(folder: Path) -> Iterator[tuple[str, Encode]]:
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
    return compiled(pixels)[0]


def onnx_run(session: Any, pixels: Any) -> Any:
    return session.run(None, {"pixels": pixels})[0]


def as_torch(run: Callable[[Any], Any]) -> Encode:
    return lambda pixels: torch.from_numpy(run(pixels.numpy()))


def all_arms(folder: Path) -> Arms:
    arms: Arms = {"transformers fp32": Encoder(new_model())}
    arms |= dict(captiond_arms()) | dict(compiled_arm())
    if find_spec("openvino"):
        arms |= dict(openvino_arms())
    if find_spec("onnxruntime") and find_spec("onnx"):
        arms |= dict(onnx_arms(folder))
    return arms


@torch.inference_mode()
def milliseconds(arms: Arms, pixels: Tensor) -> dict[str, float]:
    """The median of an image, of each arm."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(1 + ROUNDS):
        for name, encode in arms.items():
            begun = time.perf_counter()
            encode(pixels)
            taken[name].append((time.perf_counter() - begun) * 1000 / len(pixels))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


@torch.inference_mode()
def distances(arms: Arms, pixels: Tensor) -> dict[str, float]:
    """The largest difference of each arm's numbers from the first arm's."""
    truth, *_ = (encode(pixels) for encode in arms.values())
    return {name: (encode(pixels) - truth).abs().max().item() for name, encode in arms.items()}


def main(sizes: list[int]) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    console = Console()
    with TemporaryDirectory() as folder, console.status("making the encoders"):
        arms = all_arms(Path(folder))
        batches = {size: torch.randn(size, 3, SIDE, SIDE) for size in sizes}
        figures = {size: milliseconds(arms, pixels) for size, pixels in batches.items()}
        far = distances(arms, batches[sizes[0]])
    table = Table("ms an image, batch of", *map(str, sizes), "furthest from transformers")
    for name in arms:
        times = (f"{figures[size][name]:.0f}" for size in sizes)
        table.add_row(name, *times, f"{far[name]:.1e}")
    console.print(table)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1, 4, 8])

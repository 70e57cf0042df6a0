"""The runtimes, each as a function from pixels to the token ids of captions."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captiond.captioners.blip.captioner import search_for
from captiond.captioners.blip.random_weights import SIDE
from captiond.captioners.devices import dtype_of
from captiond.jobs import Generation
from captiond.settings.config import Precision
from tools.runtimes.parts import TOKENS, ImagePart, TokenPart, new_model

Caption = Callable[[Tensor], Tensor]  # [images, 3, height, width] → token ids [images, TOKENS]
Ways = Iterator[tuple[str, Caption]]
EncodeImages = Callable[[Tensor], Any]  # pixels → keys and values, as the runtime has them
# Of token ids, position, cache, keys and values; returns logits and the next cache.
Step = Callable[[Tensor, Tensor, Any, Any], tuple[Tensor, Any]]
CPU = torch.device("cpu")
RUNTIMES = ("captiond", "transformers", "compile", "openvino", "onnx")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "bf16")
BEGIN = 30522
INPUTS = ("tokens", "position", "cache", "keys_values")


def ways(images: int, folder: Path, chosen: Sequence[str]) -> Ways:
    """Yield the chosen runtimes that are installed, for batches of so many images."""
    if "captiond" in chosen:
        yield from captiond_ways()
    if "transformers" in chosen:
        yield "transformers fp32, `generate`", by_generate()
    if "compile" in chosen:
        yield "torch.compile fp32", compiled()
    if "openvino" in chosen and find_spec("openvino"):
        yield from openvino_ways(images, folder)
    if "onnx" in chosen and find_spec("onnxruntime") and find_spec("onnx"):
        yield from onnx_ways(images, folder)


def by_generate() -> Caption:
    model: Any = new_model()

    def caption(pixels: Tensor) -> Tensor:
        found: Tensor = model.generate(
            pixel_values=pixels, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
        )
        return found[:, 1:]

    return caption


def captiond_ways() -> Ways:
    """Yield captiond in each precision that a CPU has."""
    for precision in PRECISIONS if multiplies_bf16() else PRECISIONS[:2]:
        yield f"captiond {precision}", captiond(precision)


def multiplies_bf16() -> bool:
    """Return whether the processor has instructions for bf16; without them it takes very long."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def captiond(precision: Precision) -> Caption:
    dtype = dtype_of(precision, CPU)
    model: Any = new_model()
    search = search_for(model.to(dtype), precision)
    generation, prompt = Generation(max_new_tokens=TOKENS), torch.tensor([BEGIN])

    def caption(pixels: Tensor) -> Tensor:
        return search(pixels.to(dtype), prompt, generation).tokens[:, 0, 1:]

    return caption


def greedy(pixels: Tensor, encode: EncodeImages, step: Step, cache: Any) -> Tensor:
    """Return the likeliest tokens, one after the other, beginning with an empty cache."""
    keys_values = encode(pixels)
    tokens = torch.full((len(pixels),), BEGIN)
    found = []
    for position in range(TOKENS):
        logits, cache = step(tokens, torch.tensor([position]), cache, keys_values)
        tokens = logits.argmax(-1)
        found.append(tokens)
    return torch.stack(found, 1)


def compiled() -> Caption:
    """Return the model of transformers, compiled by torch."""
    import torch._inductor.config as inductor

    inductor.freezing = True  # packs the weights for oneDNN, as captiond does
    model = new_model()
    token_part = TokenPart(model)
    encode, step = (torch.compile(part, dynamic=False) for part in (ImagePart(model), token_part))
    return lambda pixels: greedy(pixels, encode, step, token_part.empty_cache(len(pixels)))


# ---------------------------------------------------------------- OpenVINO, ONNX Runtime


def examples(images: int) -> tuple[Tensor, tuple[Tensor, ...], TokenPart, ImagePart]:
    """Return inputs of both parts, and the parts."""
    model = new_model()
    image_part, token_part = ImagePart(model), TokenPart(model)
    pixels = torch.zeros(images, 3, SIDE, SIDE)
    cache = token_part.empty_cache(images)
    tokens, position = torch.zeros(images, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return pixels, (tokens, position, cache, image_part(pixels)), token_part, image_part


def openvino_ways(images: int, folder: Path) -> Ways:
    """Yield OpenVINO in fp32 and bf16. Its int8 needs another package, which is not compared.

    The converted parts are written to `folder`, so that the weights are in memory only once.
    """
    import openvino

    pixels, inputs, token_part, image_part = examples(images)
    cache = token_part.empty_cache(images).numpy()
    parts: dict[str, tuple[Any, Any]] = {
        "image": (image_part, pixels),
        "token": (token_part, inputs),
    }
    for name, (part, given) in parts.items():
        shapes = [tuple(each.shape) for each in (given if isinstance(given, tuple) else (given,))]
        converted = openvino.convert_model(part, example_input=given, input=shapes)
        openvino.save_model(converted, folder / f"{name}.xml", compress_to_fp16=False)
        del converted
    del token_part, image_part, part
    parts.clear()
    for precision in ("f32", "bf16") if multiplies_bf16() else ("f32",):
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        encode, step = (
            openvino.compile_model(folder / f"{name}.xml", "CPU", hints)
            for name in ("image", "token")
        )
        run = partial(openvino_encode, encode), partial(openvino_step, step)
        yield f"OpenVINO {precision}", partial(greedy, encode=run[0], step=run[1], cache=cache)


def openvino_encode(part: Any, pixels: Tensor) -> Any:
    return part([pixels.numpy()])[0]


def openvino_step(
    part: Any, tokens: Tensor, position: Tensor, cache: Any, keys_values: Any
) -> tuple[Tensor, Any]:
    logits, cache = part([tokens.numpy(), position.numpy(), cache, keys_values]).values()
    return torch.from_numpy(logits), cache


def onnx_ways(images: int, folder: Path) -> Ways:
    """Yield ONNX Runtime in fp32 and dynamic int8. The models are written to `folder`."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    pixels, inputs, token_part, image_part = examples(images)
    names = {"image": ["pixels"], "token": list(INPUTS)}
    parts: dict[str, tuple[Any, Any]] = {
        "image": (image_part, (pixels,)),
        "token": (token_part, inputs),
    }
    for name, (part, given) in parts.items():
        plain, quantized = folder / f"{name}-fp32.onnx", folder / f"{name}-int8.onnx"
        torch.onnx.export(part, given, plain, input_names=names[name], dynamo=False)
        matmul = {"op_types_to_quantize": ["MatMul"], "extra_options": {"MatMulConstBOnly": True}}
        quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8, **matmul)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    for precision in ("fp32", "int8"):
        encode, step = (
            onnxruntime.InferenceSession(folder / f"{name}-{precision}.onnx", options)
            for name in parts
        )
        yield (
            f"ONNX Runtime {precision}",
            partial(
                greedy,
                encode=partial(onnx_encode, encode),
                step=partial(onnx_step, step),
                cache=token_part.empty_cache(images).numpy(),
            ),
        )


def onnx_encode(session: Any, pixels: Tensor) -> Any:
    return session.run(None, {"pixels": pixels.numpy()})[0]


def onnx_step(
    session: Any, tokens: Tensor, position: Tensor, cache: Any, keys_values: Any
) -> tuple[Tensor, Any]:
    values = tokens.numpy(), position.numpy(), cache, keys_values
    logits, cache = session.run(None, dict(zip(INPUTS, values, strict=True)))
    return torch.from_numpy(logits), cache

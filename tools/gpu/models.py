"""captiond's engine and transformers' `generate` around one model in memory.

This is the only module of `tools.gpu` that names the classes of captiond's BLIP.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.captioner import CPU_ROWS, GPU_ROWS, Normalization
from captiond.captioners.blip.capture import CudaCapture, Run
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import captured
from captiond.captioners.blip.random_weights import END, LOWEST, ShapeName, config_of
from captiond.captioners.blip.search import Search
from captiond.captioners.devices import DTYPES, set_up_cuda
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import PlainLinear, linears
from captiond.captioners.quantization import image_linears
from captiond.captioners.sequences import SpecialTokens
from captiond.jobs import Generation
from captiond.settings.config import Precision

SCENES = EMBEDDED["captiond/scenes"]
NORMALIZATION = Normalization(
    1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
SPREAD = 0.06  # of random weights whose captions differ from image to image
Model = BlipForConditionalGeneration


@dataclass(frozen=True, slots=True)
class Way:
    """How the engine works: token steps as CUDA graphs, and the cross-attention absorbed."""

    graphs: bool
    absorbed: bool

    def __str__(self) -> str:
        return f"{'graphs' if self.graphs else 'no graphs'}, {self.cross}"

    @property
    def cross(self) -> str:
        return "absorbed" if self.absorbed else "projected"


WAYS = tuple(Way(graphs, absorbed) for absorbed in (False, True) for graphs in (True, False))
NAMED_WAYS = {str(way): way for way in WAYS}


def ready(device_name: str) -> torch.device:
    """Make the device ready, and products in fp32 exact: transformers' and ours alike."""
    device = torch.device(device_name)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        set_up_cuda(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device


def random_model(
    shape: ShapeName, layers: int | None, device: torch.device, spread: float | None = None
) -> Model:
    """Return a model of BLIP's shape with random weights, whose captions never end by themselves.

    With `layers`, its two halves have only so many. With `spread`, the standard deviation of its
    weights, its captions end as any do.
    """
    config = config_of(shape)
    parts: list[Any] = [config.vision_config, config.text_config]
    for part in parts:
        part.num_hidden_layers = layers or part.num_hidden_layers
        part.initializer_range = spread or part.initializer_range
    return initialized(config, device, endless=spread is None)


def initialized(config: BlipConfig, device: torch.device, *, endless: bool) -> Model:
    torch.manual_seed(0)
    with device:  # random numbers are drawn there: much sooner than on the host
        model = BlipForConditionalGeneration(config)
    if endless:
        model.text_decoder.cls.predictions.decoder.bias.data[END] = LOWEST
    model.train(mode=False)
    return model


def scenes_model(device: torch.device) -> Model:
    """Return captiond's embedded model."""
    model = BlipForConditionalGeneration.from_pretrained(SCENES)
    torch.nn.Module.to(model, device)
    return model


class Ours:
    """captiond's engine around a copy of a model, in a precision, working in one of the ways."""

    def __init__(self, model: Model, precision: Precision, way: Way) -> None:
        copy, self._dtype = deepcopy(model).to(DTYPES[precision]), DTYPES[precision]  # type: ignore[arg-type]
        config: Any = model.config.text_config
        device = model.device
        rows = CPU_ROWS if device.type == "cpu" else GPU_ROWS
        # Packed weights cannot stay in place; without graphs a CPU takes them.
        make_text = PlainLinear if way.graphs else linears(precision, device)
        make = image_linears(precision, device) if precision == "fp8" else make_text
        forward = Forward(copy, make, rows=rows, absorb=way.absorbed, make_text=make_text)
        tokens = SpecialTokens(config.bos_token_id, config.sep_token_id, config.pad_token_id)
        engine = captured(forward, capture(device), device) if way.graphs else forward
        self._search, self._encode = Search(engine, tokens), engine.encode

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 [images, height, width, 3] → what the encoder sees, on the device."""
        return self._encode(normal(pixels, self._dtype))

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, prompt: Tensor, generation: Generation) -> Tensor:
        """uint8 [images, height, width, 3] → tokens [images, captions, length], on the host."""
        sequences = self._search(normal(pixels, self._dtype), prompt, generation)
        return sequences.tokens.cpu()


def capture(device: torch.device) -> Callable[[Run], Run]:
    """Return what captures token steps; on a CPU they are run as they are."""
    return CudaCapture(device) if device.type == "cuda" else lambda run: run


def normal(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    return NORMALIZATION.to(pixels, dtype)


class Theirs:
    """transformers' `generate` as it comes, around a copy of a model in a precision."""

    def __init__(self, model: Model, precision: Precision) -> None:
        self._dtype = DTYPES[precision]
        self._model: Any = deepcopy(model).to(self._dtype)  # type: ignore[arg-type]

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, prompt: Tensor, generation: Generation) -> Tensor:
        """As `Ours`; the pixels are normalized beforehand, as a processor does it: `prepared`."""
        # The last token is cut off there, as the end that a tokenizer puts behind a prompt.
        ids = torch.cat((prompt, prompt[:1])).expand(len(pixels), -1).clone()
        least = {"min_new_tokens": generation.min_new_tokens} if generation.min_new_tokens else {}
        tokens: Tensor = self._model.generate(
            pixel_values=pixels,
            input_ids=ids,
            do_sample=False,
            num_beams=generation.num_beams,
            num_return_sequences=generation.num_captions,
            max_new_tokens=generation.max_new_tokens,
            repetition_penalty=generation.repetition_penalty,
            **least,
        )
        return tokens.view(len(pixels), generation.num_captions, -1).cpu()

    def prepared(self, pixels: Tensor) -> Tensor:
        return normal(pixels, self._dtype)


def random_pixels(images: int, side: int, device: torch.device) -> Tensor:
    """Return uint8 [images, side, side, 3], no two images alike."""
    numbers = torch.Generator(device).manual_seed(images)
    shape = (images, side, side, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=numbers, device=device)


def prompt_of(*tokens: int, device: torch.device) -> Tensor:
    """Return a prompt; its first token stands for the one that begins every text."""
    return torch.tensor([0, *tokens], device=device)


def synchronized(device: torch.device, run: Callable[[], object]) -> Callable[[], object]:
    """Return `run`, waiting for what it has started on the device."""
    if device.type == "cpu":
        return run
    return partial(run_and_wait, device, run)


def run_and_wait(device: torch.device, run: Callable[[], object]) -> None:
    run()
    torch.cuda.synchronize(device)

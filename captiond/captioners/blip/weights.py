"""The weights of a BLIP model, by the names that checkpoints give them.

transformers' `BlipForConditionalGeneration` has the same names. captiond does without it, because
its import takes longer than that of torch.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from captiond.captioners.devices import dtype_of
from captiond.captioners.protocol import Placement

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]  # names of weights, and their shapes
CHANNELS = 3
# The defaults of transformers' BlipVisionConfig and BlipTextConfig, as far as captions need them.
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "bos_token_id": 30522,
    "pad_token_id": 0,
    "sep_token_id": 102,
}
DECODER = "text_decoder.cls.predictions.decoder"
# Pairs of names for one tensor. A checkpoint may have either name, or both.
TIED = {
    f"{DECODER}.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    f"{DECODER}.bias": "text_decoder.cls.predictions.bias",
}


class VisionWeights(Protocol):
    """A model with a vision transformer, whose weights can be read by their names."""

    @property
    def config(self) -> Any: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def vision_model(self) -> Any: ...


class BlipModel(VisionWeights, Protocol):
    """A model that writes captions: `Weights`, or transformers' model."""

    @property
    def text_decoder(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a checkpoint as a tree of attributes, with the model's configuration."""

    config: SimpleNamespace
    dtype: torch.dtype
    device: torch.device
    vision_model: Any
    text_decoder: Any


class Module(SimpleNamespace):
    """Weights as attributes, with the names of a module of transformers."""

    def parameters(self) -> Iterator[Tensor]:
        """Yield all weights."""
        for child in vars(self).values():
            if isinstance(child, Tensor):
                yield child
            elif isinstance(child, Module):
                yield from child.parameters()


def config_of(values: Mapping[str, Any]) -> SimpleNamespace:
    """Return the configuration that config.json describes, with the defaults of transformers."""
    vision = SimpleNamespace(**VISION_DEFAULTS | values.get("vision_config", {}))
    text = SimpleNamespace(**TEXT_DEFAULTS | values.get("text_config", {}))
    return SimpleNamespace(vision_config=vision, text_config=text)


def weights_of(
    tensors: Mapping[str, Tensor], config: SimpleNamespace, placement: Placement
) -> Weights | None:
    """Return the weights on a device, or None if the tensors do not have the expected shapes.

    A tensor that is there under both names of a pair must be the same under both.
    """
    tensors = dict(tensors)
    for names in TIED.items():
        found = [tensors[name] for name in names if name in tensors]
        if not found or not torch.equal(found[0], found[-1]):
            return None
        tensors |= dict.fromkeys(names, found[0])
    shapes = dict(shapes_of(config))
    if any(name not in tensors or tensors[name].shape != shapes[name] for name in shapes):
        return None
    device = placement.device
    dtype = dtype_of(placement.precision, device)
    parts = tree_of({name: tensors[name].to(device, dtype) for name in shapes})
    set_eps(parts.vision_model, config.vision_config.layer_norm_eps)
    set_eps(parts.text_decoder, config.text_config.layer_norm_eps)
    return Weights(config, dtype, device, parts.vision_model, parts.text_decoder)


def tree_of(tensors: Mapping[str, Tensor]) -> Any:
    """Return tensors as a tree of attributes. Children whose names are numbers are a list."""
    if "" in tensors:
        return tensors[""]
    branches: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        branches[first][rest] = tensor
    children = {name: tree_of(branch) for name, branch in branches.items()}
    numbered = all(name.isdigit() for name in children)
    return list(children.values()) if numbered else Module(**children)


def set_eps(tree: Any, eps: float) -> None:
    """Set `eps` of all norms in a tree: of all modules whose weight is a vector."""
    if isinstance(tree, list):
        for child in tree:
            set_eps(child, eps)
    elif isinstance(tree, Module):
        for child in list(vars(tree).values()):
            set_eps(child, eps)
        if isinstance(weight := vars(tree).get("weight"), Tensor) and weight.dim() == 1:
            tree.eps = eps


# ---------------------------------------------------------------- names and shapes


def shapes_of(config: SimpleNamespace) -> Shapes:
    """Yield the names and shapes of all weights that captions need."""
    yield from vision_shapes(config.vision_config)
    yield from text_shapes(config.text_config, config.vision_config.hidden_size)


def vision_shapes(config: SimpleNamespace) -> Shapes:
    width, inner, patch = config.hidden_size, config.intermediate_size, config.patch_size
    embeddings = "vision_model.embeddings"
    positions = (config.image_size // patch) ** 2 + 1
    yield f"{embeddings}.class_embedding", (1, 1, width)
    yield f"{embeddings}.position_embedding", (1, positions, width)
    yield f"{embeddings}.patch_embedding.weight", (width, CHANNELS, patch, patch)
    yield f"{embeddings}.patch_embedding.bias", (width,)
    for number in range(config.num_hidden_layers):
        layer = f"vision_model.encoder.layers.{number}"
        yield from norm(f"{layer}.layer_norm1", width)
        yield from linear(f"{layer}.self_attn.qkv", width, 3 * width)
        yield from linear(f"{layer}.self_attn.projection", width, width)
        yield from norm(f"{layer}.layer_norm2", width)
        yield from linear(f"{layer}.mlp.fc1", width, inner)
        yield from linear(f"{layer}.mlp.fc2", inner, width)
    yield from norm("vision_model.post_layernorm", width)


def text_shapes(config: SimpleNamespace, feature_width: int) -> Shapes:
    width, inner, words = config.hidden_size, config.intermediate_size, config.vocab_size
    embeddings, predictions = "text_decoder.bert.embeddings", "text_decoder.cls.predictions"
    yield f"{embeddings}.word_embeddings.weight", (words, width)
    yield f"{embeddings}.position_embeddings.weight", (config.max_position_embeddings, width)
    yield from norm(f"{embeddings}.LayerNorm", width)
    for number in range(config.num_hidden_layers):
        layer = f"text_decoder.bert.encoder.layer.{number}"
        yield from text_attention(f"{layer}.attention", width, width)
        yield from text_attention(f"{layer}.crossattention", width, feature_width)
        yield from linear(f"{layer}.intermediate.dense", width, inner)
        yield from linear(f"{layer}.output.dense", inner, width)
        yield from norm(f"{layer}.output.LayerNorm", width)
    yield from linear(f"{predictions}.transform.dense", width, width)
    yield from norm(f"{predictions}.transform.LayerNorm", width)
    yield from linear(DECODER, width, words)


def text_attention(name: str, width: int, attended: int) -> Shapes:
    """Yield the shapes of an attention to vectors of width `attended`."""
    yield from linear(f"{name}.self.query", width, width)
    yield from linear(f"{name}.self.key", attended, width)
    yield from linear(f"{name}.self.value", attended, width)
    yield from linear(f"{name}.output.dense", width, width)
    yield from norm(f"{name}.output.LayerNorm", width)


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)

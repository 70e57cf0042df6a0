"""Checkpoints with BLIP's image-text matching, such as Salesforce/blip-itm-base-coco.

They have the layout of transformers' `BlipForImageTextRetrieval`. captiond reads them by itself if
their weights are safetensors, else transformers reads them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from captiond.captioners.blip.checkpoint import PROCESSOR_DEFAULTS, read_tokenizer
from captiond.captioners.blip.weights import (
    Shapes,
    VisionWeights,
    config_of,
    linear,
    set_eps,
    text_shapes,
    tree_of,
    vision_shapes,
)
from captiond.captioners.devices import dtype_of
from captiond.captioners.protocol import Placement
from captiond.errors import ModelBroken

WEIGHTS = "model.safetensors"
CLASSES = 2  # no match, and match
DECODER = "text_decoder.bert."


class MatchingModel(VisionWeights, Protocol):
    """A model whose text encoder and head can be read by the names of their weights."""

    @property
    def text_encoder(self) -> Any: ...

    @property
    def itm_head(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class MatchingTree:
    """The weights of a checkpoint as a tree of attributes, with the model's configuration."""

    config: SimpleNamespace
    dtype: torch.dtype
    device: torch.device
    vision_model: Any
    text_encoder: Any
    itm_head: Any


@dataclass(frozen=True, slots=True)
class MatchingCheckpoint:
    """The weights of a model, its tokenizer, and how it wants its images."""

    model: MatchingModel
    tokenizer: Tokenizer
    processor: Any


def matching_shapes(config: SimpleNamespace) -> Shapes:
    """Yield the names and shapes of all weights that matching needs."""
    yield from vision_shapes(config.vision_config)
    for name, shape in text_shapes(config.text_config, config.vision_config.hidden_size):
        if name.startswith(DECODER):
            yield f"text_encoder.{name.removeprefix(DECODER)}", shape
    yield from linear("itm_head", config.text_config.hidden_size, CLASSES)


def read_matching(folder: Path, placement: Placement) -> MatchingCheckpoint:
    """Read a checkpoint in the Hugging Face layout.

    Raises:
        ModelBroken: the files do not make a model with image-text matching.
    """
    try:
        if not (folder / WEIGHTS).is_file() or not (folder / "tokenizer.json").is_file():
            from captiond.captioners.blip import by_transformers

            checkpoint = by_transformers.read_matching(folder, placement)
        else:
            checkpoint = read_plain_matching(folder, placement)
        check_activations(checkpoint.model.config, folder)
        return checkpoint
    except ModelBroken:
        raise
    except Exception as error:  # libraries raise whatever the damage of a file leads to
        raise ModelBroken(f"{folder}: cannot be loaded as a matching model: {error}") from error


def check_activations(config: Any, folder: Path) -> None:
    """Return if a model has the activations that captiond computes.

    Raises:
        ModelBroken: it has not.
    """
    activations = {config.vision_config.hidden_act, config.text_config.hidden_act}
    if activations != {"gelu"}:
        raise ModelBroken(
            f"{folder}: has the activations {', '.join(sorted(activations))}; captiond computes "
            "matching models with gelu only"
        )


def read_plain_matching(folder: Path, placement: Placement) -> MatchingCheckpoint:
    config = config_of(json.loads((folder / "config.json").read_bytes()))
    tensors = load_file(folder / WEIGHTS)
    wrong = [
        name
        for name, shape in matching_shapes(config)
        if name not in tensors or tensors[name].shape != shape
    ]
    if wrong:
        raise ModelBroken(
            f"{folder}: has no image-text matching: {wrong[0]} is missing or of another shape"
        )
    return MatchingCheckpoint(
        tree(tensors, config, placement),
        read_tokenizer(folder / "tokenizer.json"),
        read_processor(folder),
    )


def tree(
    tensors: Mapping[str, Tensor], config: SimpleNamespace, placement: Placement
) -> MatchingTree:
    device, dtype = placement.device, dtype_of(placement.precision, placement.device)
    names = [name for name, _ in matching_shapes(config)]
    parts = tree_of({name: tensors[name].to(device, dtype) for name in names})
    set_eps(parts.vision_model, config.vision_config.layer_norm_eps)
    set_eps(parts.text_encoder, config.text_config.layer_norm_eps)
    return MatchingTree(
        config, dtype, device, parts.vision_model, parts.text_encoder, parts.itm_head
    )


def read_processor(folder: Path) -> SimpleNamespace:
    """Return how a model wants its images, with the defaults of transformers."""
    path = folder / "preprocessor_config.json"
    values = json.loads(path.read_bytes()) if path.is_file() else {}
    return SimpleNamespace(
        **{name: values.get(name, default) for name, default in PROCESSOR_DEFAULTS.items()}
    )


def share_encoding(folder: Path, other: Path) -> bool:
    """Return whether two checkpoints encode images in the same way.

    `False` only costs time, so checkpoints that cannot be compared are taken as unlike.
    """
    if folder == other:
        return True
    if not all((each / WEIGHTS).is_file() for each in (folder, other)):
        return False
    one, two = (
        config_of(json.loads((each / "config.json").read_bytes())).vision_config
        for each in (folder, other)
    )
    alike = (
        dict(vision_shapes(one)) == dict(vision_shapes(two))
        and one.num_attention_heads == two.num_attention_heads
        and one.layer_norm_eps == two.layer_norm_eps
        and read_processor(folder) == read_processor(other)
    )
    return alike and same_tensors(folder / WEIGHTS, other / WEIGHTS, dict(vision_shapes(one)))


def same_tensors(one: Path, two: Path, names: Iterable[str]) -> bool:
    """Return whether two files have equal tensors of these names. The first difference ends it."""
    with safe_open(one, "pt") as ours, safe_open(two, "pt") as theirs:
        common = {*ours.keys()} & {*theirs.keys()}
        return all(
            name in common
            and torch.equal(ours.get_tensor(name).float(), theirs.get_tensor(name).float())
            for name in names
        )

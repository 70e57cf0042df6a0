"""Which captioner a checkpoint needs: the `model_type` of its config.json chooses it."""

import json
from pathlib import Path

from captiond.captioners.blip.family import BLIP
from captiond.captioners.protocol import (
    Captioner,
    Comparison,
    Family,
    Placement,
    Probe,
    RandomModel,
)
from captiond.errors import ModelBroken

# To add a captioner, write a package like `blip`, and add its family here.
FAMILIES: dict[str, Family] = {"blip": BLIP}


def load_captioner(folder: Path, placement: Placement) -> Captioner:
    """Load the model in a folder, which is in the Hugging Face layout.

    Raises:
        ModelBroken: no captioner can load these files.
    """
    return family_of(folder).load(folder, placement)


def load_comparison(folder: Path, placement: Placement) -> Comparison:
    """Load the model in a folder twice: for captiond, and for transformers.

    Raises:
        ModelBroken: the files cannot be loaded, or their family has nothing to compare with.
    """
    family = family_of(folder)
    if family.compare is None:
        raise ModelBroken(f"{folder}: captiond bench cannot measure models of this type")
    return family.compare(folder, placement)


def probe_of(folder: Path, placement: Placement) -> Probe | None:
    """Return a probe of the model in a folder, or None if there is nothing to choose for it.

    Raises:
        ModelBroken: config.json cannot be read, or no family is known for its `model_type`.
    """
    family = family_of(folder)
    return None if family.probe is None else family.probe(folder, placement)


def random_models() -> dict[str, RandomModel]:
    """Return the models of random weights of all families, by their names."""
    return {
        name: model for family in FAMILIES.values() for name, model in family.random_models.items()
    }


def family_of(folder: Path) -> Family:
    """Return the family of the model in a folder.

    Raises:
        ModelBroken: config.json cannot be read, or no family is known for its `model_type`.
    """
    model_type = model_type_of(folder)
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelBroken(
            f"{folder}: config.json has the model_type {model_type!r}; captiond knows: {known}"
        )
    return FAMILIES[model_type]


def uses_context(folder: Path) -> bool:
    """Return whether the captioner of the model in a folder uses the context of a request."""
    try:
        return family_of(folder).uses_context
    except ModelBroken:  # the loading reports it
        return False


def invented_words(folder: Path) -> tuple[str, ...]:
    """Return the words that the kind of the model in a folder is known to invent."""
    try:
        return tuple(family_of(folder).invented_words())
    except ModelBroken:  # the loading reports it
        return ()


def model_type_of(folder: Path) -> str | None:
    """Return the `model_type` of a checkpoint, or None if config.json does not have one.

    Raises:
        ModelBroken: config.json cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelBroken(f"{folder}: config.json cannot be read: {error}") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    return model_type if isinstance(model_type, str) else None

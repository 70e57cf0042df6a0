"""The entry of BLIP in the table of captioners."""

from functools import partial
from pathlib import Path
from typing import Literal

from captiond.captioners.blip.captioner import Blip, hallucinations
from captiond.captioners.blip.probe import blip_probe
from captiond.captioners.protocol import Comparison, Family, Placement, RandomModel

# The modules that are imported within these functions import transformers, which takes long.


def load_comparison(folder: Path, placement: Placement) -> Comparison:
    from captiond.captioners.blip import reference

    return reference.load_comparison(folder, placement)


def write_random_model(name: Literal["base", "large"], folder: Path) -> None:
    from captiond.captioners.blip import random_weights

    random_weights.write_random_model(name, folder)


BLIP = Family(
    load=Blip.load,
    compare=load_comparison,
    probe=blip_probe,
    invented_words=hallucinations,
    random_models={
        "base": RandomModel(
            "BLIP-base's shape, random weights", partial(write_random_model, "base")
        ),
        "large": RandomModel(
            "BLIP-large's shape, random weights", partial(write_random_model, "large")
        ),
    },
)

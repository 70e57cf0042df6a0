"""The entry of BLIP in the table of captioners."""

from functools import partial

from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.random_weights import write_random_model
from captiond.captioners.blip.reference import load_comparison
from captiond.captioners.protocol import Family, RandomModel

BLIP = Family(
    load=Blip.load,
    compare=load_comparison,
    random_models={
        "base": RandomModel(
            "BLIP-base's shape, random weights", partial(write_random_model, "base")
        ),
        "large": RandomModel(
            "BLIP-large's shape, random weights", partial(write_random_model, "large")
        ),
    },
)

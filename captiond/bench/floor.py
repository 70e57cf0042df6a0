"""The floor: the least time that captions can take.

It is a model's arithmetic divided by the best rates that the machine reaches.
"""

from dataclasses import dataclass

from captiond.captioners.arithmetic import Arithmetic, CrossAttentionCost


@dataclass(frozen=True, slots=True)
class Rates:
    """The best rates of a machine, per second."""

    flop: float
    bytes: float


@dataclass(frozen=True, slots=True)
class BatchWork:
    """The work of one batch: `tokens` new tokens of all its images together, in `steps` steps."""

    images: int
    tokens: int
    steps: int


def floor_seconds(model: Arithmetic, rates: Rates, work: BatchWork, number_bytes: int) -> float:
    """Return the least time of a batch in seconds.

    The images are encoded first. The token steps are then bound by computation or by reading,
    whichever takes longer. A number of the model takes `number_bytes` bytes.
    """

    def seconds(cross: CrossAttentionCost) -> float:
        images = work.images * (model.vision + cross.image)
        computed = work.tokens * (model.token + cross.token) / rates.flop
        read = work.steps * (model.weights + cross.weights) + work.tokens * cross.keys
        return images / rates.flop + max(computed, read * number_bytes / rates.bytes)

    return min(seconds(cross) for cross in model.cross)

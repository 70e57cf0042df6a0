"""Checks the limits of the queue of tasks, in images and in bytes."""

import math

from captiond.errors import QueueFull
from captiond.notation.sizes import shown_size
from captiond.settings.config import LimitSettings
from captiond.store.queueview import Backlog

UNKNOWN_SECONDS = 30  # Retry-After if it is not known how fast images are finished
MOST_SECONDS = 600


def check_queue(backlog: Backlog, new: Backlog, limits: LimitSettings, rate: float) -> None:
    """Return if the queue takes a `new` task. It takes any task while no image waits.

    `rate` is how many images are finished per second, or 0 if that is not known.

    Raises:
        QueueFull: The limit of images or of bytes would be exceeded.
    """
    if backlog.images == 0:
        return
    images = backlog.images + new.images - limits.queued_images
    size = backlog.size + new.size - (limits.queued_bytes or math.inf)
    if images > 0:
        raise QueueFull(
            f"{backlog.images} images wait; at most {limits.queued_images} may wait ([limits] "
            "queued_images); try again later",
            retry_after=retry_after(images, rate),
        )
    if size > 0:
        per_image = max(1.0, backlog.size / backlog.images)
        raise QueueFull(
            f"images of {shown_size(backlog.size)} wait; at most {shown_size(limits.queued_bytes)} "
            "may wait ([limits] queued_bytes); try again later",
            retry_after=retry_after(size / per_image, rate),
        )


def retry_after(images: float, rate: float) -> int:
    """Return the seconds until so many images are finished, from 1 to MOST_SECONDS."""
    if rate <= 0:
        return UNKNOWN_SECONDS
    return max(1, math.ceil(min(MOST_SECONDS, images / rate)))

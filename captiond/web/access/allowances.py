"""What each client may do: the limits of its key, or those of the settings."""

from dataclasses import dataclass, replace

from captiond.keys import Key, Limits
from captiond.settings.config import Settings


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a client may do at the same time.

    `limits.images` is for images that wait in requests, `task_images` for those that wait in tasks.
    """

    limits: Limits
    task_images: int

    @classmethod
    def of(cls, key: Key | None, settings: Settings) -> "Allowance":
        """Return the allowance of a key, or None: that of a client without a key."""
        defaults, queues = settings.clients.limits, settings.limits
        limits, share = (key.limits.over(defaults), key.share) if key else (defaults, 1.0)
        return cls(
            replace(limits, images=within_share(limits.images, share, queues.waiting_images)),
            within_share(limits.images, share, queues.queued_images),
        )


def within_share(images: int | None, share: float, queue: int) -> int:
    """Return how many images of a client may wait in a queue of this length; 0: no limit.

    `images` is the client's limit, `share` the part of the queue that its key may fill.
    """
    limits = [images] if images else []
    if share < 1:
        limits.append(max(1, int(share * queue)))
    return min(limits, default=0)


class Allowances:
    """The allowances of all keys. Each is computed once, not for each request."""

    def __init__(self, settings: Settings) -> None:
        self.without_key = Allowance.of(None, settings)
        self._settings = settings
        self._known: dict[bytes, tuple[Key, Allowance]] = {}

    def of(self, key: Key) -> Allowance:
        """Return the allowance of a key."""
        known = self._known.get(key.digest)
        if known is None or known[0] is not key:  # the key may have other limits now
            known = self._known[key.digest] = key, Allowance.of(key, self._settings)
        return known[1]

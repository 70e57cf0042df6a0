"""When to repeat a call that has failed, and how long to wait before."""

import random
from dataclasses import dataclass

from captiond.backoff import backoff

# Too many requests, and what a proxy or the service says while it cannot serve.
RETRIED_STATUSES = frozenset({429, 502, 503})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on with a call that fails.

    A call is repeated until `seconds` have passed since its first attempt. The pause before a
    repetition is what the service asks for in Retry-After. Without that, or if that is 0, it grows
    from `first` to `longest` seconds, and is shortened at random, so that many clients do not come
    back at the same moment.
    """

    seconds: float = 120.0
    first: float = 0.5
    longest: float = 15.0

    def pause(self, failures: int, elapsed: float, retry_after: float | None) -> float | None:
        """Return the seconds to wait after so many failures in a row; None means to give up."""
        pause = retry_after
        if not pause:  # some proxies send 0 for as long as the service is away
            ceiling = backoff(failures, first=self.first, longest=self.longest)
            pause = ceiling * random.uniform(0.5, 1)
        return pause if elapsed + pause <= self.seconds else None


NEVER = RetryPolicy(seconds=0)

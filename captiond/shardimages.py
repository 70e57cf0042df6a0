"""Images of imports: the names under which processes refer to them."""

from typing import NamedTuple

PREFIX = "shard:"


class ShardImage(NamedTuple):
    """The image at a `place` of a shard, which an `attempt` captions."""

    import_id: str
    number: int
    attempt: int
    place: int

    @property
    def ticket(self) -> str:
        return f"{PREFIX}{self.import_id}:{self.number}:{self.attempt}:{self.place}"

    @classmethod
    def of(cls, ticket: str) -> "ShardImage | None":
        """Return the image of a ticket, or None if it is a ticket of a task or a client."""
        if not ticket.startswith(PREFIX):
            return None
        import_id, number, attempt, place = ticket.removeprefix(PREFIX).split(":")
        return cls(import_id, int(number), int(attempt), int(place))

"""From what the model processes said to the one state that clients are told."""

from dataclasses import dataclass, field

from captiond.messages import Health, ModelInfo, Ready, State, Unready


@dataclass(slots=True)
class ModelHealth:
    """What is known of every model process, by the name of its place."""

    places: dict[str, Ready | Unready | None] = field(default_factory=dict)
    last: ModelInfo | None = None

    def hear(self, place: str, message: Ready | Unready) -> None:
        self.places[place] = message
        if isinstance(message, Ready):
            self.last = message.model

    def lose(self, place: str) -> None:
        """Its process ended. Why it could not load its model stays true until the next try."""
        if not isinstance(self.places.get(place), Unready):
            self.places[place] = None

    def state(self, *, draining: bool) -> State:
        heard = list(self.places.values())
        if draining:
            return State(Health.DEGRADED, self.last, ("captiond is stopping",), "draining", True)
        for message in heard:
            if isinstance(message, Ready):
                return State(Health.HEALTHY, message.model, ())
        refusals = [message for message in heard if isinstance(message, Unready)]
        if refusals:
            reasons = tuple(dict.fromkeys(refusal.reason for refusal in refusals))
            return State(Health.UNHEALTHY, self.last, reasons, refusals[0].code)
        if self.last is not None:
            return State(
                Health.DEGRADED, self.last, ("the model process died and is being replaced",)
            )
        return State()

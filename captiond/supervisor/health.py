"""The health of the service, derived from what its model processes have reported. Pure."""

from dataclasses import dataclass, field, replace

from captiond.messages import Health, ModelInfo, Ready, State, Unready


@dataclass(slots=True)
class ModelHealth:
    """The last report of each model process, by its role; None if there is no current one."""

    reports: dict[str, Ready | Unready | None] = field(default_factory=dict)
    last: ModelInfo | None = None
    caching: set[str] = field(default_factory=set)

    def loading(self, role: str) -> None:
        """Note that a process that loads its model can answer images that the cache knows."""
        self.caching.add(role)

    def report(self, role: str, message: Ready | Unready) -> None:
        """Note the report of a model process."""
        self.reports[role] = message
        self.caching.discard(role)
        if isinstance(message, Ready):
            self.last = message.model

    def exited(self, role: str) -> None:
        """Note that a model process has exited.

        The reason why it could not load its model stays until its replacement reports.
        """
        self.caching.discard(role)
        if not isinstance(self.reports.get(role), Unready):
            self.reports[role] = None

    def state(self, *, draining: bool) -> State:
        """Return the state that web processes get, as far as the model processes decide it."""
        return replace(self._state(draining=draining), cache=bool(self.caching))

    def _state(self, *, draining: bool) -> State:
        if draining:
            reasons: tuple[str, ...] = ("captiond is stopping",)
            return State(Health.DEGRADED, self.last, reasons, "draining", draining=True)
        reports = self.reports.values()
        for report in reports:
            if isinstance(report, Ready):
                return State(Health.HEALTHY, report.model, ())
        refusals = [report for report in reports if isinstance(report, Unready)]
        if refusals:
            reasons = tuple(dict.fromkeys(refusal.reason for refusal in refusals))
            return State(Health.UNHEALTHY, self.last, reasons, refusals[0].code)
        if self.last is not None:
            reasons = ("the model process died and is being replaced",)
            return State(Health.DEGRADED, self.last, reasons)
        return State()

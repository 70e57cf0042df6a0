"""The health of the service, derived from what its model processes have reported. Pure."""

from dataclasses import dataclass, field, replace

from captiond.deaths import Death
from captiond.errors import ModelBroken
from captiond.messages import Health, ModelInfo, Ready, State, Unready

SILENT_EXITS = 2  # of one role in a row, before any report: one may be an accident
CAUSES = {
    Death.KILLED: "was killed before it had loaded the model. The kernel does that when memory is "
    "short; give captiond more memory, or choose a smaller model",
    Death.HUNG: "does not get as far as loading the model; the log has more",
}
UNKNOWN_CAUSE = "ended before it had loaded the model; the log has the reason"


@dataclass(slots=True)
class ModelHealth:
    """The last report of each model process, by its role; None if there is no current one.

    `silent_exits` counts the processes of a role that have exited before any report.
    """

    reports: dict[str, Ready | Unready | None] = field(default_factory=dict)
    last: ModelInfo | None = None
    silent_exits: dict[str, int] = field(default_factory=dict)
    caching: set[str] = field(default_factory=set)

    def loading(self, role: str) -> None:
        """Note that a process that loads its model can answer images that the cache knows."""
        self.caching.add(role)

    def report(self, role: str, message: Ready | Unready) -> None:
        """Note the report of a model process."""
        self.reports[role] = message
        self.silent_exits.pop(role, None)
        self.caching.discard(role)
        if isinstance(message, Ready):
            self.last = message.model

    def exited(self, role: str, death: Death) -> None:
        """Note that a model process has exited.

        The reason why it could not load its model stays until its replacement reports. A process
        that exits before it can report one would otherwise be replaced for ever while the service
        says that the model is being loaded.
        """
        self.caching.discard(role)
        report = self.reports.get(role)
        if isinstance(report, Ready):
            self.reports[role] = None
        elif report is None:
            exits = self.silent_exits[role] = self.silent_exits.get(role, 0) + 1
            if exits >= SILENT_EXITS:
                cause = CAUSES.get(death, UNKNOWN_CAUSE)
                self.reports[role] = Unready(f"the model process {cause}", ModelBroken.code)

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

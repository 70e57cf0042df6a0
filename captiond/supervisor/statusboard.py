"""The state of the service, published to web processes and to systemd."""

from captiond.messages import Health, Keys, Ready, State, Unready
from captiond.processes.children import ChildProcess
from captiond.supervisor.health import ModelHealth
from captiond.supervisor.roster import ChildKind, Roster
from captiond.systemd import Notifier


class StatusBoard:
    """Derives the one `State` of the service, and sends it to all web processes when it changes."""

    def __init__(self, roster: Roster, notifier: Notifier, model_roles: list[str]) -> None:
        self._roster = roster
        self._notifier = notifier
        self._models = ModelHealth(dict.fromkeys(model_roles))
        self._spool_free: int | None = None
        self.state = State()
        self.keys = Keys()

    def greet(self, web: ChildProcess) -> None:
        """Send the keys and the current state to a web process that has just started."""
        web.channel.send(self.keys)
        web.channel.send(self.state)

    def keys_changed(self, keys: Keys) -> None:
        """Note and publish the keys that are valid now."""
        self.keys = keys
        self._roster.broadcast(ChildKind.WEB, keys)

    def model_loading(self, role: str) -> None:
        """Note and publish that a process that loads its model can answer known images."""
        self._models.loading(role)
        self.publish()

    def model_reported(self, role: str, report: Ready | Unready) -> None:
        """Note and publish that a model process is ready, or why it cannot be."""
        self._models.report(role, report)
        self.publish()

    def model_exited(self, role: str) -> None:
        """Note and publish that a model process has exited."""
        self._models.exited(role)
        self.publish()

    def spool_measured(self, free: int | None) -> None:
        """Note and publish how many bytes tasks may still store; None if there is no limit."""
        self._spool_free = free
        self.publish()

    def publish(self) -> None:
        """Send the state to the web processes and to systemd if it has changed."""
        draining = self._roster.draining
        state = self._models.state(draining=draining, spool_free=self._spool_free)
        if state == self.state:
            return
        self.state = state
        self._roster.broadcast(ChildKind.WEB, state)
        if state.health is Health.HEALTHY and state.model is not None:
            self._notifier.status(f"captioning with {state.model.name}")
        elif not draining:
            self._notifier.status("; ".join(state.reasons))

"""The state of the service, published to web processes and to systemd."""

import time
from collections.abc import Callable
from dataclasses import replace

from captiond.deaths import Death
from captiond.host.systemd import Notifier
from captiond.messages import Health, Keys, ModelInfo, Ready, State, Unready
from captiond.processes.children import ChildProcess
from captiond.supervisor.drainrate import DrainRate
from captiond.supervisor.health import ModelHealth
from captiond.supervisor.roster import ChildKind, Roster


class StatusBoard:
    """Derives the one `State` of the service, and sends it to all web processes when it changes."""

    def __init__(
        self,
        roster: Roster,
        notifier: Notifier,
        model_roles: list[str],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        announce: Callable[[ModelInfo], None] | None = None,
    ) -> None:
        self._roster = roster
        self._notifier = notifier
        self._models = ModelHealth(dict.fromkeys(model_roles))
        self._monotonic = monotonic
        self._announce = announce  # is called once, when the service can caption
        self._rate = DrainRate()
        self._rate_of_others = 0.0
        self._spool_free: int | None = None
        self._disk_free: int | None = None
        self._disk_writable = True
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

    def model_exited(self, role: str, death: Death) -> None:
        """Note and publish that a model process has exited."""
        self._models.exited(role, death)
        self.publish()

    def spool_measured(self, free: int | None) -> None:
        """Note and publish how many bytes tasks may still store. None stands for no limit."""
        self._spool_free = free
        self.publish()

    def disk_measured(self, free: int | None, *, writable: bool) -> None:
        """Note and publish how many bytes all uploads may still store, and if any can be stored.

        None stands for no limit.
        """
        self._disk_free, self._disk_writable = free, writable
        self.publish()

    def bulk_finished(self) -> None:
        """Note that an image of a task is finished."""
        self._rate.finished(self._monotonic())

    def others_finish(self, rate: float) -> None:
        """Note how many images of tasks other nodes finish per second."""
        if rate != self._rate_of_others:
            self._rate_of_others = rate
            self.publish()

    @property
    def own_rate(self) -> float:
        """The images of tasks that this node finishes per second, or 0 if that is not known."""
        return self._rate.rate(self._monotonic())

    def publish(self) -> None:
        """Send the state to the web processes and to systemd if it has changed."""
        draining = self._roster.draining
        state = replace(
            self._models.state(draining=draining),
            spool_free=self._spool_free,
            disk_free=self._disk_free,
            disk_writable=self._disk_writable,
            bulk_rate=self.own_rate + self._rate_of_others,
        )
        if state == self.state:
            return
        self.state = state
        self._roster.broadcast(ChildKind.WEB, state)
        if state.health is Health.HEALTHY and state.model is not None:
            self._notifier.status(state.cannot_store or f"captioning with {state.model.name}")
            if self._announce is not None:
                self._announce(state.model)
                self._announce = None
        elif not draining:
            self._notifier.status("; ".join(state.reasons))

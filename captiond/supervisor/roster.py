"""The child processes that run now, and what a stop demands of each of them."""

from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum

import structlog

from captiond.messages import Drain, Message
from captiond.processes.children import ChildProcess

log = structlog.get_logger()
Receiver = Callable[[Message], None]


class ChildKind(StrEnum):
    """The two kinds of children that a supervisor has."""

    WEB = "web"
    MODEL = "model"


class DrainStage(IntEnum):
    """How far a stop has come.

    `ANNOUNCED`: the state that web processes get says so; nothing is claimed any more. `WEB`: web
    processes answer the requests that they have, with the help of the model processes. `MODEL`: all
    web processes have exited; model processes finish their batch. `OVERDUE`: the deadline has
    passed.
    """

    SERVING = 0
    ANNOUNCED = 1
    WEB = 2
    MODEL = 3
    OVERDUE = 4


class Demand(Enum):
    """What a stop demands of a child: nothing yet, to drain, or to be killed."""

    NOTHING = "nothing"
    DRAIN = "drain"
    KILL = "kill"


def demand(stage: DrainStage, kind: ChildKind, *, ready: bool) -> Demand:
    """Return what a stop at this stage demands of a child.

    A model process that is not `ready` still loads its model: it has no batch to finish.
    """
    if stage is DrainStage.OVERDUE:
        return Demand.KILL
    if kind is ChildKind.WEB:
        return Demand.NOTHING if stage < DrainStage.WEB else Demand.DRAIN
    if stage < DrainStage.MODEL:
        return Demand.NOTHING
    return Demand.DRAIN if ready else Demand.KILL


class Roster:
    """The running children by their names, and the stage of the stop.

    A child that is added during a stop gets at once what the stop demanded of the others. A part of
    the supervisor can be attached in the place of a child: it gets the messages for it, and a stop
    demands nothing of it.
    """

    def __init__(self) -> None:
        self.stage = DrainStage.SERVING
        self._children: dict[ChildKind, dict[str, ChildProcess]] = {kind: {} for kind in ChildKind}
        self._attached: dict[ChildKind, dict[str, Receiver]] = {kind: {} for kind in ChildKind}
        self._ready: set[str] = set()
        self._killed: set[str] = set()

    @property
    def draining(self) -> bool:
        """Whether the service stops."""
        return self.stage is not DrainStage.SERVING

    def add(self, kind: ChildKind, child: ChildProcess) -> None:
        """Add a child that was started."""
        self._children[kind][child.name] = child
        self._enforce(demand(self.stage, kind, ready=False), child)

    def attach(self, kind: ChildKind, name: str, receive: Receiver) -> None:
        """Have `receive` called with the messages for a child of this name."""
        self._attached[kind][name] = receive

    def mark_ready(self, model: str) -> None:
        """Note that a model process has loaded its model."""
        self._ready.add(model)

    def has_killed(self, child: str) -> bool:
        """Return whether a stop has killed this child, so that its exit is no fault."""
        return child in self._killed

    def remove(self, kind: ChildKind, child: ChildProcess) -> None:
        """Remove a child that has exited."""
        del self._children[kind][child.name]
        self._ready.discard(child.name)
        self._killed.discard(child.name)

    def advance(self, stage: DrainStage) -> None:
        """Go on to a stage of the stop, and demand of all children what it adds."""
        before, self.stage = self.stage, stage
        for kind, children in self._children.items():
            for child in children.values():
                ready = child.name in self._ready
                new = demand(stage, kind, ready=ready)
                if new is not demand(before, kind, ready=ready):
                    self._enforce(new, child)

    def has(self, kind: ChildKind, name: str | None = None) -> bool:
        """Return whether a child of this name runs, or, without a name, whether any runs."""
        children = self._children[kind].keys() | self._attached[kind].keys()
        return bool(children) if name is None else name in children

    def kinds(self) -> dict[int, ChildKind]:
        """Return the kinds of the running children, by their process ids."""
        return {
            child.process.pid: kind
            for kind, children in self._children.items()
            for child in children.values()
            if child.process.pid is not None
        }

    def send(self, kind: ChildKind, name: str, message: Message) -> None:
        """Send a message to a child; it is dropped if the child has exited."""
        child = self._children[kind].get(name)
        if child is not None:
            child.channel.send(message)
        elif (receive := self._attached[kind].get(name)) is not None:
            receive(message)

    def broadcast(self, kind: ChildKind, message: Message) -> None:
        """Send a message to all children of a kind."""
        for child in self._children[kind].values():
            child.channel.send(message)

    def _enforce(self, demanded: Demand, child: ChildProcess) -> None:
        if demanded is Demand.DRAIN:
            child.channel.send(Drain())
        elif demanded is Demand.KILL:
            if self.stage is DrainStage.OVERDUE:
                log.warning("drain_overdue", child=child.name)
            self._killed.add(child.name)
            child.kill()

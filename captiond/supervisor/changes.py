"""Reports to all web processes which tasks have changed, for the clients that wait for news."""

import asyncio
from collections.abc import Sequence

from captiond.messages import TasksChanged
from captiond.supervisor.peers import Peers, Topic
from captiond.supervisor.roster import ChildKind, Roster

PACE_SECONDS = 0.05  # between two reports; a batch of images is one report


class TaskChanges:
    """Collects the ids of tasks whose revision has risen, and sends them to all web processes.

    Those of the other nodes get them through their supervisors.
    """

    def __init__(self, roster: Roster, peers: Peers) -> None:
        self._roster = roster
        self._peers = peers
        peers.on(Topic.CHANGED, self._pass_on)
        self._changed: dict[str, None] = {}
        self._any = asyncio.Event()

    def note(self, *task_ids: str) -> None:
        """Note that these tasks have changed."""
        self._changed.update(dict.fromkeys(task_ids))
        if self._changed:
            self._any.set()

    async def run(self) -> None:
        """Send what was noted, until cancelled."""
        while True:
            await self._any.wait()
            self._any.clear()
            changed, self._changed = tuple(self._changed), {}
            self._pass_on(changed)
            self._peers.say(Topic.CHANGED, *changed)
            await asyncio.sleep(PACE_SECONDS)

    def _pass_on(self, task_ids: Sequence[str]) -> None:
        self._roster.broadcast(ChildKind.WEB, TasksChanged(tuple(task_ids)))

"""Receives what the supervisor sends to a model process."""

import asyncio

from captiond.messages import Drain, Withdraw, Work
from captiond.processes.channel import Channel, ChannelClosed
from captiond.worker.intake import ImageIntake
from captiond.worker.reporting import Reporter


class Receiver:
    """Gives work to the intake. `stopped` is set when the process is to end."""

    def __init__(self, channel: Channel, intake: ImageIntake, reporter: Reporter) -> None:
        self._channel = channel
        self._intake = intake
        self._reporter = reporter
        self._preparing: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Receive until the supervisor exits or the task is cancelled. Work runs in `group`."""
        try:
            while True:
                match await self._channel.receive():
                    case Work() as work:
                        task = group.create_task(self._intake.accept(work))
                        self._preparing.add(task)
                        task.add_done_callback(self._preparing.discard)
                    case Withdraw(ticket):
                        self._reporter.withdraw(ticket)
                    case Drain():
                        self.stopped.set()
                    case message:
                        raise TypeError(f"a model process takes no {type(message).__name__}")
        except ChannelClosed:
            self.stopped.set()

    def cancel_unfinished(self) -> None:
        """Cancel work that is not with the model yet. The supervisor requeues it."""
        for task in self._preparing:
            task.cancel()

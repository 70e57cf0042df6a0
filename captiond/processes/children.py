"""A child process with its channel: how it is started, and how its end is seen."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from captiond.messages import Message
from captiond.processes.channel import Channel
from captiond.processes.start import SPAWN, Start, run_module

MakeStart = Callable[[str, "Connection[Message, Message]"], Start]


@dataclass(frozen=True)
class Child:
    """A running child process; `name` is unlike any other's, ever."""

    name: str
    process: SpawnProcess
    channel: Channel

    @classmethod
    async def spawn(cls, name: str, module: str, make_start: MakeStart) -> "Child":
        """Start a child that runs `module`.

        The child's end of the pipe is closed here, so that its death is seen at once.
        """
        ours, theirs = SPAWN.Pipe(duplex=True)
        start = make_start(name, theirs)
        process = SPAWN.Process(target=run_module, args=(module, start), name=name)
        process.start()
        theirs.close()
        return cls(name, process, await Channel.open(ours))

    async def ended(self) -> int:
        """Wait for the process to end; its exit code, negative for a signal."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self.process.sentinel)
        self.process.join()
        return self.process.exitcode or 0

    def is_stopped(self) -> bool:
        """Whether a signal has suspended it: what proc(5) has as state T."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:  # it has ended
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        """Let go of a child that has ended."""
        self.channel.close()
        self.process.close()

"""A child process and its channel."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from captiond.host.currentfolder import leave_deleted_folder
from captiond.messages import Message
from captiond.processes.channel import Channel
from captiond.processes.start import SPAWN, SUPERVISORS, Start, run_module
from captiond.shielding import shielded

EXIT_POLL_SECONDS = 0.002  # a process is gone a moment after its descriptors are closed
MakeStart = Callable[[str, "Connection[Message, Message]"], Start]


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the supervisor's signals. A process that is started meanwhile inherits this.

    `pkill -USR1 captiond`, Ctrl-C and a service manager send them to all processes. A child that
    has just been started does not ignore them yet, so it would end, and the log would report that.
    """
    # The tracker of multiprocessing's resources unblocks SIGINT when it is started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class ChildProcess:
    """A child process that was started; `name` is unique among all that were ever started."""

    name: str
    process: SpawnProcess
    channel: Channel

    @classmethod
    async def spawn(
        cls, name: str, module: str, make_start: MakeStart, *, standby: bool = False
    ) -> "ChildProcess":
        """Start a child that runs the function `main` of `module`, now or later as a `standby`.

        The parent closes its copy of the child's end of the pipe, so that it sees the child's death
        at once. A child whose channel cannot be opened is killed.

        Raises:
            OSError: the process cannot be started: the machine has no memory or no descriptor left.
        """
        # guard: deleted-current-folder
        leave_deleted_folder()
        ours, theirs = SPAWN.Pipe(duplex=True)
        start = replace(make_start(name, theirs), standby=standby)
        process = SPAWN.Process(target=run_module, args=(module, start), name=name)
        try:
            with signals_blocked():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            return cls(name, process, await Channel.open(ours))
        except BaseException:
            process.kill()
            process.join()
            raise

    async def exited(self) -> int:
        """Wait until the process exits. Return its exit code, which is negative for a signal.

        The sentinel is a descriptor that the child holds open. A child that was taken over may
        close it and go on, and a `join` would then block the event loop.
        """
        loop, exited = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.process.sentinel, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(self.process.sentinel)
        while (code := self.process.exitcode) is None:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(EXIT_POLL_SECONDS)
        return code

    def is_stopped(self) -> bool:
        """Return whether a signal has suspended the process: state T in proc(5)."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:  # the process has exited
            return False
        # guard: stopped-is-not-hung
        return stat.rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        """Send SIGKILL; a process that has exited ignores it."""
        self.process.kill()

    def discard(self) -> None:
        """Kill the process and release its channel. multiprocessing buries it at the next start."""
        self.process.kill()
        self.channel.close()

    async def end(self) -> None:
        """Kill the process, wait until it has exited, and release what belongs to it.

        A caller that is cancelled meanwhile continues after that.
        """
        # guard: children-are-released
        await shielded(self._end())

    async def _end(self) -> None:
        self.kill()
        await self.exited()
        self.close()

    def close(self) -> None:
        """Release the channel and the process object of a child that has exited."""
        self.channel.close()
        self.process.close()

"""A child process for tests: it waits to be drained, and exits with 1 then."""

import os

from captiond.messages import Drain, Imported
from captiond.processes.channel import BlockingChannel, ChannelClosed
from captiond.processes.start import Start


def main(start: Start) -> None:
    """Exit with 1 when this process is drained, with 99 when its parent closes the channel."""
    channel = BlockingChannel(start.connection)
    if start.standby:
        channel.send(Imported())
    try:
        while not isinstance(channel.receive(), Drain):
            pass
    except ChannelClosed:
        os._exit(99)
    os._exit(1)

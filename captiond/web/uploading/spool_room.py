"""The space that uploads may take: `[limits] spool_bytes`, and the free space of the disk."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from captiond.errors import BodyTooLarge, NoSpace, SpoolFull
from captiond.messages import State
from captiond.notation.sizes import shown_size
from captiond.settings.config import LimitSettings

RETRY_SECONDS = 30  # until tasks have finished and their files are removed
# The supervisor measures the spool every five seconds, and object storage every minute. What an
# upload took is counted here until a measurement includes it.
SETTLE_SECONDS, REMOTE_SETTLE_SECONDS = 10.0, 120.0


class SpoolRoom:
    """Counts the bytes of the uploads of this process that are under way or not measured yet.

    `state` returns what the supervisor has measured, `monotonic` a time in seconds. If the spool is
    `remote`, uploads of tasks leave this machine's disk as soon as they have arrived.
    """

    def __init__(
        self,
        limits: LimitSettings,
        state: Callable[[], State],
        *,
        remote: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._remote = remote
        self._settle = REMOTE_SETTLE_SECONDS if remote else SETTLE_SECONDS
        self._state = state
        self._monotonic = monotonic
        self._under_way = self._not_measured = 0
        self._sent_away = 0  # of what is not measured: it takes no space of this disk any more
        self._ended: deque[tuple[float, UploadRoom]] = deque()

    @property
    def taken(self) -> int:
        """The bytes of uploads that the supervisor may not have measured yet."""
        now = self._monotonic()
        while self._ended and self._ended[0][0] <= now - self._settle:
            self.release(self._ended.popleft()[1])
        return self._under_way + self._not_measured

    @contextmanager
    def upload(self, request: Request, *, durable: bool, max_bytes: int) -> Iterator["UploadRoom"]:
        """Take space for an upload of at most `max_bytes` while the block runs, as it arrives.

        Before anything of the body is read, the length that the request announces must fit. No
        space is taken for it: a client could announce much, and send nothing. What has arrived
        keeps its space until the file has been measured, or until `release`. An upload that is
        `durable` has to keep to the limit of the spool.

        Raises:
            BodyTooLarge: the upload alone exceeds `[limits] spool_bytes`, so no retry helps.
            SpoolFull: `[limits] spool_bytes` would be exceeded.
            NoSpace: The reserve of free disk space would be touched.
        """
        room = UploadRoom(self, durable=durable)
        length = request.headers.get("content-length", "")
        announced = min(int(length), max_bytes) if length.isdigit() else 1
        self.check_alone(announced, durable=durable)
        self.check(announced, durable=durable)
        try:
            yield room
        except BaseException:
            self._under_way -= room.arrived
            raise
        self._under_way -= room.arrived
        self._not_measured += room.arrived
        room.sent_away = room.arrived if durable and self._remote else 0
        self._sent_away += room.sent_away
        self._ended.append((self._monotonic(), room))

    def release(self, room: "UploadRoom") -> None:
        """Give back the space of an upload that has ended: it is measured, or the file is gone."""
        self._not_measured -= room.arrived
        self._sent_away -= room.sent_away
        room.arrived = room.sent_away = 0

    def take(self, size: int, *, durable: bool) -> None:
        """Take space for more bytes. Raises SpoolFull or NoSpace, and takes nothing then."""
        self.check(size, durable=durable)
        self._under_way += size

    def check_alone(self, size: int, *, durable: bool) -> None:
        """Return if one upload may have so many bytes. Raises BodyTooLarge."""
        most = self._limits.spool_bytes
        if durable and 0 < most < size:
            raise BodyTooLarge(
                f"the request is over {shown_size(most)}, the most that may wait ([limits] "
                "spool_bytes)"
            )

    def check(self, size: int, *, durable: bool) -> None:
        """Return if more bytes fit. Raises SpoolFull or NoSpace."""
        state, taken = self._state(), self.taken
        # guard: reserve-of-disk-space
        if state.disk_free is not None and taken - self._sent_away + size > state.disk_free:
            raise NoSpace(
                "the disk has too little free space ([limits] reserve_bytes); nothing was accepted"
            )
        if durable and state.spool_free is not None and taken + size > state.spool_free:
            raise SpoolFull(
                f"the uploads that wait may take {shown_size(self._limits.spool_bytes)} ([limits] "
                f"spool_bytes), and {shown_size(max(0, state.spool_free - taken))} are left; try "
                "again later",
                retry_after=RETRY_SECONDS,
            )


class NoRoom:
    """The space of a form that is not stored: it takes none."""

    def add(self, size: int) -> None:
        """Ignore bytes that have arrived."""


class UploadRoom:
    """The space of one upload: `arrived` bytes, of which `sent_away` take none of this disk."""

    def __init__(self, spool: SpoolRoom, *, durable: bool) -> None:
        self.arrived = self.sent_away = 0
        self._spool = spool
        self._durable = durable

    def add(self, size: int) -> None:
        """Take space for bytes that have arrived. Raises what `SpoolRoom.upload` raises."""
        self._spool.check_alone(self.arrived + size, durable=self._durable)
        self._spool.take(size, durable=self._durable)
        self.arrived += size

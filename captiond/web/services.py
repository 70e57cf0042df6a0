"""What a request handler has at hand: one object, made when the web process starts."""

from dataclasses import dataclass

from captiond.config import Settings
from captiond.spool import Spool
from captiond.store.engine import Engine
from captiond.web.acceptance import Acceptance
from captiond.web.desk import Desk
from captiond.web.heap import Heap


@dataclass(frozen=True, slots=True)
class Services:
    """`owner` names this process: its files in the spool begin with it."""

    settings: Settings
    engine: Engine
    acceptance: Acceptance
    desk: Desk
    heap: Heap
    spool: Spool
    owner: str

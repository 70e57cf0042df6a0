"""The objects that request handlers share, made once when the web process starts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from captiond.recording import Recorder
from captiond.settings.config import Settings
from captiond.spool import Spool
from captiond.store.engine import Engine
from captiond.usage import ClientUsage
from captiond.web.access.allowances import Allowances
from captiond.web.async_tasks.event_log import EventLog
from captiond.web.async_tasks.status_cache import StatusCache
from captiond.web.async_tasks.task_queue import TaskQueue
from captiond.web.async_tasks.task_watch import TaskWatch
from captiond.web.supervisor_client import SupervisorClient
from captiond.web.uploading.spool_room import SpoolRoom
from captiond.web.uploading.upload_memory import UploadMemory

if TYPE_CHECKING:
    from captiond.spans import Traces


@dataclass(frozen=True, slots=True)
class Services:
    """What request handlers use. `owner` is this process's name: its spool files begin with it.

    `traces` is None if traces are off.
    """

    settings: Settings
    engine: Engine
    spool: Spool
    owner: str
    supervisor: SupervisorClient
    queue: TaskQueue
    statuses: StatusCache
    watch: TaskWatch
    events: EventLog
    upload_memory: UploadMemory
    spool_room: SpoolRoom
    usage: ClientUsage
    allowances: Allowances
    recorder: Recorder
    traces: "Traces | None" = None


def services_of(request: Request) -> Services:
    """Return the services of the application that handles this request."""
    services: Services = request.app.state.services
    return services

"""The handler of the metrics, for Prometheus and whatever reads its format."""

from starlette.requests import Request
from starlette.responses import Response

from captiond.errors import CaptiondError
from captiond.web.exposition import exposition, wanted_format
from captiond.web.services import services_of

ANSWER_SECONDS = 3.0  # Prometheus itself waits 10 seconds by default


class MetricsUnavailable(CaptiondError):
    """The supervisor does not send the metrics. Numbers of one process would be wrong sums."""

    code = "metrics_unavailable"
    status = 503
    retry_after = 5


async def metrics(request: Request) -> Response:
    """Return the metrics of all processes, in the format that the client accepts.

    Raises:
        MetricsUnavailable: the supervisor is too busy to answer.
    """
    services = services_of(request)
    try:
        measured = await services.supervisor.metrics(services.recorder, seconds=ANSWER_SECONDS)
    except TimeoutError:
        raise MetricsUnavailable(
            f"the supervisor has not answered within {ANSWER_SECONDS:g} seconds"
        ) from None
    chosen = wanted_format(request.headers.get("accept", ""))
    headers = {"Content-Type": chosen.value, "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(exposition(measured, chosen), headers=headers)

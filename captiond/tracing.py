"""Whether this process makes traces: only if the variables of OpenTelemetry ask for them.

Nothing of OpenTelemetry is imported otherwise. `captiond.spans` makes the spans.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from captiond.spans import Traces

EXPORTERS = "OTEL_TRACES_EXPORTER"
# One of these asks for traces as well: it says where to send them.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NONE = "none"
log = structlog.get_logger()


def tracing_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether the variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environ.get(EXPORTERS, "").strip().lower()
    if exporters:
        return exporters != NONE
    return any(environ.get(endpoint) for endpoint in ENDPOINTS)


def start_tracing(process: str, environ: Mapping[str, str]) -> "Traces | None":
    """Return what makes the traces of this process, None if they are off or not possible.

    The service runs without traces if they are not possible: the variables may be meant for all
    programs of a machine.
    """
    if not tracing_wanted(environ):
        return None
    try:
        from captiond.spans import Traces
    except ImportError as error:
        log.warning("tracing_unavailable", reason=f"{error}; pip install 'captiond[otel]'")
        return None
    try:
        return Traces.started(process, environ)
    except (ImportError, LookupError, ValueError) as error:
        log.warning("tracing_unavailable", reason=str(error))
        return None

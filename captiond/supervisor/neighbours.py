"""What several nodes need in common. A start that would harm the others is refused."""

from collections.abc import Mapping

from captiond.errors import SettingsError, StartupError
from captiond.settings.config import Settings
from captiond.store import leases
from captiond.store.engine import Engine
from captiond.supervisor.nodereport import report_from

SHOWN = 3  # nodes in a message


def check_role(settings: Settings) -> None:
    """Return if a node of this role can work with others at all.

    Raises:
        SettingsError: it shares neither a database nor uploads with them.
    """
    role = settings.node.role
    if role == "all":
        return
    if not settings.database_address.is_server:
        raise SettingsError(
            f"[node] role = {role}: this node needs the database of the others; set [database] url "
            "to one of PostgreSQL"
        )
    if missing := missing_in_common(settings):
        raise SettingsError(f"[node] role = {role}: {missing}")


async def check_neighbours(settings: Settings, engine: Engine, node: str) -> None:
    """Return if this node can work with those that use its database now.

    Raises:
        StartupError: images or webhooks would fail on one of them.
        StoreError: the database cannot be read now.
    """
    others = await leases.living_elsewhere(engine, node) if engine.database.shared else {}
    problem = missing_in_common(settings) or differing_uploads(settings, others)
    # guard: nodes-without-common-uploads
    if others and problem:
        names = ", ".join([*others][:SHOWN])
        raise StartupError(
            f"{engine.database.address}: in use by other nodes ({names}): {problem}. A node that "
            f"has died is listed for {settings.node.lease_seconds:g} seconds"
        )


def differing_uploads(settings: Settings, others: Mapping[str, str | None]) -> str | None:
    """Return which other node keeps its uploads elsewhere, None if none does. `others` report."""
    for node, text in others.items():
        report = report_from(text)
        if report is not None and report.uploads != settings.uploads.url:
            place = report.uploads or "its data folder"
            return f"{node} keeps uploads in {place}; set the same [uploads] url on all nodes"
    return None


def missing_in_common(settings: Settings) -> str | None:
    """Return what the settings lack that all nodes have to share, or None."""
    if not settings.uploads.url:
        return (
            "several nodes need [uploads] url, because each of them captions what another one has "
            "received"
        )
    if settings.webhooks.allow and not settings.webhooks.secret.get_secret_value():
        return "several nodes need [webhooks] secret, because each of them signs webhooks"
    return None

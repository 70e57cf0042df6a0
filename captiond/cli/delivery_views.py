"""The deliveries of webhooks, as commands show them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from rich.text import Text

from captiond.cli.listings import moment, plain, print_listing, status
from captiond.store.deliveries import Delivery
from captiond.web.schemas import rfc3339

WEBHOOK_COLUMNS = (
    "webhook", "status", "attempts", "last attempt", "answer", "next attempt", "url",
)  # fmt: skip
TIMES = ("created_at", "due_at", "tried_at")
EITHER = ("task_id", "import_id")  # a delivery has one of them


def delivery_items(deliveries: Iterable[Delivery]) -> list[dict[str, Any]]:
    """Return deliveries as JSON shows them. Times are RFC 3339 in UTC."""
    items = []
    for delivery in deliveries:
        fields = {**asdict(delivery), **{name: rfc3339(getattr(delivery, name)) for name in TIMES}}
        items.append(
            {name: each for name, each in fields.items() if name not in EITHER or each is not None}
        )
    return items


def show_deliveries(items: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    """Print deliveries as a table, if there are any."""
    if items:
        print_listing(WEBHOOK_COLUMNS, [delivery_cells(each) for each in items], out)


def delivery_cells(delivery: Mapping[str, Any]) -> tuple[Text, ...]:
    return (
        plain(delivery["id"]),
        status(delivery["status"]),
        plain(delivery["attempts"]),
        moment(delivery["tried_at"]),
        plain(delivery["error"] or delivery["response"] or ""),
        moment(delivery["due_at"]),
        plain(delivery["url"]),
    )

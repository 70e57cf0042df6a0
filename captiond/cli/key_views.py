"""The output of `captiond keys`: tables on a terminal, JSON lines elsewhere."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from rich.text import Text

from captiond.cli.formats import json_text, print_line, toml_value
from captiond.cli.listings import moment, plain, print_listing
from captiond.keys import HASH_PREFIX, Key
from captiond.web.schemas import rfc3339

COLUMNS = (
    "name", "id", "scopes", "limits", "weight", "share", "source", "created", "revoked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key, where it comes from, and the Unix seconds of its creation and revocation if known."""

    key: Key
    source: str
    created_at: float | None = None
    revoked_at: float | None = None


def show_keys(keys: Iterable[ListedKey], out: TextIO) -> None:
    """Print a line for each key."""
    if not out.isatty():
        for listed in keys:
            print_line(json_text(key_fields(listed)), out)
        return
    print_listing(COLUMNS, [key_cells(key_fields(listed)) for listed in keys], out)


def key_cells(fields: dict[str, Any]) -> tuple[Text, ...]:
    return (
        plain(fields["name"]),
        plain(fields["id"]),
        plain(", ".join(fields["scopes"])),
        plain(", ".join(f"{name} {value}" for name, value in fields["limits"].items())),
        plain(f"{fields['weight']:g}"),
        plain(f"{fields['share']:g}"),
        plain(fields["source"]),
        moment(fields["created_at"]),
        moment(fields["revoked_at"]),
    )


def key_fields(listed: ListedKey) -> dict[str, Any]:
    """Return what is shown of a key. The limits are those that differ from the settings."""
    key = listed.key
    return {
        "name": key.name,
        "id": key.id,
        "scopes": sorted(key.scopes),
        "limits": own_limits(key),
        "weight": key.weight,
        "share": key.share,
        "source": listed.source,
        "created_at": rfc3339(listed.created_at),
        "revoked_at": rfc3339(listed.revoked_at),
    }


def own_limits(key: Key) -> dict[str, int]:
    """Return the limits that the key has itself."""
    return {name: value for name, value in asdict(key.limits).items() if value is not None}


def file_entry(key: Key) -> str:
    """Return the entry of a key in a file of keys, with its hash in place of the key."""
    fields: dict[str, Any] = {
        "key": HASH_PREFIX + key.digest.hex(),
        "scopes": sorted(key.scopes),
        "weight": key.weight,
        "share": key.share,
        **own_limits(key),
    }
    lines = (f"{name} = {toml_value(value)}" for name, value in fields.items())
    return "\n".join((f"[{toml_value(key.name)}]", *lines))

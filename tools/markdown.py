"""Parts of pages in Markdown."""

from collections.abc import Iterable


def code(text: object) -> str:
    return f"`{text}`"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    header = list(header)
    lines = [row(header), "|" + "---|" * len(header), *map(row, rows)]
    return "\n".join(lines) + "\n"


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""Print the figures of a soak as a table in Markdown: python -m tests.faults.table"""

import json
import sys
from typing import Any

from tests.faults.harness import FIGURES

FIRST = ("fault", "rounds", "images", "lost", "doubled", "failed")


def row(entry: dict[str, Any]) -> str:
    others = {name: value for name, value in entry.items() if name not in {*FIRST, "answers"}}
    cells = [str(entry.get(name, "")) for name in FIRST]
    cells.append(", ".join(f"{name} {value}" for name, value in others.items()))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    sys.stdout.write(f"| {' | '.join(FIRST)} | figures |\n|{'---|' * 7}\n")
    for line in FIGURES.read_text().splitlines():
        sys.stdout.write(row(json.loads(line)) + "\n")


if __name__ == "__main__":
    main()

"""Print what captiond needs, a requirement in each line: python tools/image/requirements.py EXTRA…

An image installs these before captiond itself. A change of captiond's code then changes only the
last, small layers of the image.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str]) -> list[str]:
    """Return the dependencies in a pyproject.toml, with those of some extras."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    optional = [each for extra in extras for each in table["optional-dependencies"][extra]]
    return [*table["dependencies"], *optional]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])) + "\n")

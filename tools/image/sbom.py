"""Print what an image contains, as CycloneDX 1.6: python tools/image/sbom.py [NAME VERSION]

It lists the installed Python distributions and Debian packages. It runs in the finished image, with
the Python of the environment that it describes, so it can miss nothing that was installed later.
"""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from typing import Any

DPKG = ("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n")
Component = dict[str, Any]


def python_components() -> Iterator[Component]:
    """Yield a component for each installed Python distribution."""
    found = {normalized(each.metadata["Name"]): each for each in distributions()}
    for name, distribution in sorted(found.items()):
        version = distribution.version
        purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            **licences(distribution),
        }


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(distribution: Distribution) -> dict[str, Any]:
    """Return the licence that the metadata names, if it is an expression or a short name."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return {"licenses": [{"expression": metadata["License-Expression"]}]}
    name = metadata["License"].strip() if "License" in metadata else ""
    return {"licenses": [{"license": {"name": name}}]} if name and "\n" not in name else {}


def debian_components() -> Iterator[Component]:
    """Yield a component for each Debian package, or none where there is no dpkg."""
    try:
        listed = subprocess.run(DPKG, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return
    for line in sorted(listed.splitlines()):
        name, version, architecture = line.split("\t")
        quoted = version.replace("+", "%2B").replace(":", "%3A")
        purl = f"pkg:deb/debian/{name}@{quoted}?arch={architecture}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def document(name: str, version: str) -> dict[str, Any]:
    """Return the whole document."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": name, "name": name, "version": version},
            "properties": [{"name": "python", "value": platform.python_version()}],
        },
        "components": [*python_components(), *debian_components()],
    }


def main() -> None:
    name, version = sys.argv[1:] if len(sys.argv) == 3 else ("captiond", "unknown")
    json.dump(document(name, version), sys.stdout, indent=1)


if __name__ == "__main__":
    main()

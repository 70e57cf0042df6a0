"""`python -m captiond.healthcheck`: whether the service of a data folder can caption images.

This is the HEALTHCHECK of the container images. The service writes its address into the data
folder, so the check finds it whatever the port is. A proxy in the environment is not used. The exit
status is 0 or 1, and one line says why.
"""

import http.client
import os
import sys
from pathlib import Path

from captiond.authority import address_of
from captiond.errors import SettingsError
from captiond.settings.sources import CONFIG_VARIABLE, load_settings

TIMEOUT = 8.0  # seconds


def check(url: str) -> str | None:
    """Return why the service at this URL cannot caption images, or None if it can."""
    try:
        connection = http.client.HTTPConnection(*address_of(url), timeout=TIMEOUT)
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    return None if response.status == http.client.OK else f"{response.status}: {text}"


def main() -> int:
    """Check the service of the data folder that file and environment name."""
    config = os.environ.get(CONFIG_VARIABLE)
    try:
        settings = load_settings(
            file=Path(config) if config else None, environ=os.environ, flags={}
        )
        url = settings.address_file.read_text("ascii").strip()
    except (SettingsError, OSError) as error:
        return report(f"not running: {error}", works=False)
    problem = check(url)
    return report(f"{url}: {problem or 'ready'}", works=problem is None)


def report(text: str, *, works: bool) -> int:
    """Print one line, and return the exit status."""
    sys.stdout.write(f"{' '.join(text.split())}\n")
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())

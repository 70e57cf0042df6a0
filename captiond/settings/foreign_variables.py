"""Variables of the environment that look like settings and are none.

Kubernetes describes each service of a namespace in variables. A service with the name `captiond`
gives variables that begin like captiond's own. The service that captiond replaces has variables
with general names, which captiond does not read: many programs have a PORT.
"""

import re
from collections.abc import Mapping

# From the documentation of Kubernetes: "Discovering services", "Environment variables".
OF_KUBERNETES = re.compile(
    r"CAPTIOND(_[A-Z0-9]+)*_"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
WITH_URL = re.compile(r"CAPTIOND(_[A-Z0-9]+)*_PORT")
REPLACED = {
    "HOST": "CAPTIOND_SERVER__HOST",
    "PORT": "CAPTIOND_SERVER__PORT",
    "WORKERS": "CAPTIOND_SERVER__WORKERS",
    "MODEL_NAME": "CAPTIOND_MODEL__NAME",
    "LOG_LEVEL": "CAPTIOND_LOGS__LEVEL",
}


def is_of_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes has set this variable.

    `CAPTIOND_PORT` alone is also what a person may write for `CAPTIOND_SERVER__PORT`. Kubernetes
    gives it a URL.
    """
    return bool(OF_KUBERNETES.fullmatch(name) or (WITH_URL.fullmatch(name) and "://" in value))


def without_effect(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the replaced service that are set, and what captiond calls them.

    A variable is left out if captiond's own one is set as well.
    """
    return {
        name: own for name, own in REPLACED.items() if environ.get(name) and not environ.get(own)
    }

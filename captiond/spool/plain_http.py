"""Which object storage is called over plain HTTP."""

from collections.abc import Mapping

VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # obstore reads them


def is_plain_http(endpoint: str, environ: Mapping[str, str]) -> bool:
    """Return whether S3 is called over plain HTTP: as the endpoint of the settings says, if any.

    Without one, obstore takes it from the environment. It refuses plain HTTP unless an option of
    its HTTP client allows it, and with any such option it takes no others from the environment.
    """
    endpoints = [endpoint] if endpoint else [environ.get(name, "") for name in VARIABLES]
    return any(each.lower().startswith("http://") for each in endpoints)

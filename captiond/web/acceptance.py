"""What a client accepts: the header Accept (RFC 9110, 12.5.1)."""


def qualities(accept: str) -> dict[str, float]:
    """Return how much a client wants each media type that the header names, from 0 to 1.

    Parameters of a type, such as its version, are ignored.
    """
    wanted: dict[str, float] = {}
    for name, quality in map(media_range, accept.split(",")):
        wanted[name] = max(quality, wanted.get(name, 0.0))
    return wanted


def media_range(entry: str) -> tuple[str, float]:
    """Return the media type of an entry of Accept, and how much the client wants it."""
    name, *parameters = (part.strip().lower() for part in entry.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0

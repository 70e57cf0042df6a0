"""The names of the model: what clients may call it, and how answers show it. Pure."""

from collections.abc import Sequence

OUR_NAME = "captiond"  # a name that is valid whatever the model is
ANY = "*"
LATEST = ":latest"  # the tag that Ollama adds to a name without one


def shown_name(model: str) -> str:
    """Return the name of a model as clients see it: of a folder, its last part."""
    is_folder = model.startswith(("/", ".", "~"))
    return model.rstrip("/").rpartition("/")[2] if is_folder else model


def is_served(asked: str, model: str, further: Sequence[str] = ()) -> bool:
    """Return whether the model has the name that a request asks for.

    It has its own name, the last part of that, `captiond`, and the `further` names of the settings,
    each with and without `:latest`, in upper or lower case. `*` among them is any name.
    """
    own = shown_name(model)
    names = {own, own.rpartition("/")[2], OUR_NAME, *further}
    return ANY in further or plain(asked) in set(map(plain, names))


def plain(name: str) -> str:
    """Return a name as names are compared."""
    return name.strip().casefold().removesuffix(LATEST)


def tagged(name: str) -> str:
    """Return a name as Ollama lists it, which always has a tag."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST

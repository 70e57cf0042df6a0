"""The flags of `captiond caption` that choose a service."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captiond.cli.captioning.by_service import by_service
from captiond.cli.captioning.command import Captioner
from captiond.errors import SettingsError
from captiond.request_options import MAX_REQUEST_TAGS
from captiond.settings.sources import KEY_VARIABLE
from captiond.vocabulary import read_tags


def service_captioner(
    url: str, key_file: Path | None, options: Mapping[str, Any], others: Mapping[str, object]
) -> Captioner:
    """Return the way to caption files by the service at `url`.

    `options` are those of the request, None where a flag was not given. `others` are flags that
    cannot be combined with `--url`.

    Raises:
        SettingsError: the key cannot be read, or one of the other flags is given.
    """
    for flag, value in others.items():
        if value:
            raise SettingsError(
                f"command line: --{flag} cannot be combined with --url: the service has its own "
                "settings"
            )
    given = {name: value for name, value in options.items() if value is not None}
    return by_service(url, service_key(key_file), **given)


def texts_of(vocabulary: Path) -> tuple[str, ...]:
    """Return the tags of a file, for a request. The service has its own threshold and lexicon.

    Raises:
        SettingsError: the file is wrong, or has more tags than a request may have.
    """
    tags = read_tags(vocabulary)
    if len(tags) > MAX_REQUEST_TAGS:
        raise SettingsError(
            f"--vocabulary {vocabulary}: has {len(tags)} tags; with --url, at most "
            f"{MAX_REQUEST_TAGS} are allowed: name the file in the settings of the service instead"
        )
    if any(tag.category is not None or tag.threshold is not None for tag in tags):
        raise SettingsError(
            f"--vocabulary {vocabulary}: with --url, a line has a tag only; a category or a "
            "threshold needs a file in the settings of the service"
        )
    return tuple(tag.text for tag in tags)


def service_key(file: Path | None) -> str | None:
    """Return the key for a service, from a file or else from the environment.

    Raises:
        SettingsError: the file cannot be read, or what is there can be no key.
    """
    if file is None:
        key = os.environ.get(KEY_VARIABLE, "")
        check_key(key, KEY_VARIABLE)
        return key or None
    try:
        key = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--key-file {file}: cannot be read: {error}") from error
    if not key:
        raise SettingsError(f"--key-file {file}: the file is empty")
    check_key(key, f"--key-file {file}")
    return key


def check_key(key: str, source: str) -> None:
    """Return if a header can have this key. The message does not show it. Raises SettingsError."""
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{source}: this is no key; keys have ASCII characters, on one line")

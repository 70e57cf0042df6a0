"""Keys outside of the database: in the settings, in a file, and in a systemd credential.

The file and the credential are TOML. Each key is a table, whose name is the key's name.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from captiond.errors import SettingsError
from captiond.keys import Key
from captiond.settings.client_settings import KeyEntry, KeyName, KeySettings
from captiond.settings.setting_problems import in_words

CREDENTIAL = "captiond-keys"  # LoadCredential=captiond-keys:… in the unit


def key_files(settings: KeySettings, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that hold keys: `[keys] file`, and the credential if systemd passes it."""
    files = [] if settings.file is None else [settings.file]
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder is not None and (Path(folder) / CREDENTIAL).exists():
        files.append(Path(folder) / CREDENTIAL)
    return tuple(files)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys in a file.

    Raises:
        SettingsError: the file cannot be read, or an entry is wrong. The message contains no key.
    """
    try:
        entries = table_of_entries().validate_python(tomllib.loads(path.read_text("utf-8-sig")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        lines = (
            f"{path}: {place(problem['loc'])}: {in_words(problem)}" for problem in error.errors()
        )
        raise SettingsError("\n".join(lines)) from None
    return named(entries)


@cache
def table_of_entries() -> TypeAdapter[dict[str, KeyEntry]]:
    """Return the type of a file. It is made when a file is read: most services have none."""
    return TypeAdapter(dict[KeyName, KeyEntry])


def named(entries: Mapping[str, KeyEntry]) -> tuple[Key, ...]:
    """Return the keys of these entries."""
    return tuple(entry.named(name) for name, entry in entries.items())


def place(steps: tuple[int | str, ...]) -> str:
    """Return where in a file something is wrong."""
    return ".".join(str(step) for step in steps if step != "[key]")

"""Where settings come from: defaults < captiond.toml < environment < command line.

The environment writes `server.port` as `CAPTIOND_SERVER__PORT`, the command line as
`--set server.port=…`. A source that sets a whole table or list replaces the one below it. A source
that sets one entry of a table (`CAPTIOND_TAGS__PIPELINES__EN`, `--set tags.pipelines.en=…`) changes
this entry and keeps the others.

A variable without a value counts as not set: `VARIABLE: ${OTHER:-}` in a compose file gives one.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from captiond.errors import SettingsError
from captiond.notation.textvalues import in_home, read_table
from captiond.settings.config import Settings
from captiond.settings.foreign_variables import is_of_kubernetes
from captiond.settings.option_settings import Section
from captiond.settings.setting_problems import in_words, similar

ENV_PREFIX = "CAPTIOND_"
ENV_HINT = "; section and key are joined by two underscores, as in CAPTIOND_SERVER__PORT"
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"  # the settings file
URL_VARIABLE, KEY_VARIABLE = f"{ENV_PREFIX}URL", f"{ENV_PREFIX}KEY"  # of a service to call
NO_SETTINGS = frozenset({CONFIG_VARIABLE, URL_VARIABLE, KEY_VARIABLE})
DEFAULT, ENVIRONMENT, COMMAND_LINE = "default", "environment", "command line"
SECRETS = {
    ("database", "url"),
    ("webhooks", "secret"),
    ("uploads", "secret_access_key"),
    ("keys", "named"),
}  # no message shows the values of these settings

Name = tuple[str, str]  # section and key


def sections() -> dict[str, type[Section]]:
    """Return the model of each section by its name."""
    return {
        name: section
        for name, info in Settings.model_fields.items()
        if isinstance(section := info.annotation, type) and issubclass(section, Section)
    }


def find_tables() -> dict[Name, Mapping[str, Any]]:
    """Return the settings that are tables, with their default entries."""
    return {
        (section, key): info.default
        for section, model in sections().items()
        for key, info in model.model_fields.items()
        if get_origin(info.annotation) is dict
    }


TABLES = find_tables()


@dataclass(frozen=True, slots=True)
class Layer:
    """The settings of one source, not yet checked.

    `values[section][key]` are whole settings. `entries[section, key]` are single entries of tables.
    `name` is what messages call the source.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    entries: Mapping[Name, Mapping[str, Any]] = field(default_factory=dict)

    def sets(self, section: str, key: str = "", entry: str = "") -> bool:
        """Return whether this source sets a section, a setting of it, or an entry of a table.

        A source that sets a whole table sets each of its entries.
        """
        if entry in self.entries.get((section, key), {}):
            return True
        keys = self.values.get(section)
        return key in keys if isinstance(keys, Mapping) and key else keys is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting in force, and the source of its value.

    `source` names the source of each entry where a table has its entries from several.
    """

    section: str
    key: str
    value: Any
    source: str
    default: Any = None

    @property
    def differs(self) -> bool:
        """Whether the value is another one than the default."""
        return bool(self.value != self.default)


def load_settings(
    *,
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Mapping[str, Any]],
) -> Settings:
    """Return the checked settings of a file, the environment and the command line.

    `flags[section][key]` are the values from the command line. None means that a flag was not
    given. The key `pipelines.en` is the entry `en` of the table `pipelines`.

    Raises:
        SettingsError: settings are wrong. A line for each names its source, key and value.
    """
    return checked(layers_of(file, environ, flags))


def layers_of(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Mapping[str, Any]]
) -> list[Layer]:
    """Return the sources, strongest first.

    Raises:
        SettingsError: the file cannot be read.
    """
    layers = [from_flags(flags), from_environment(environ)]
    return [*layers, from_file(file)] if file is not None else layers


def checked(layers: list[Layer]) -> Settings:
    """Return the settings that the layers give together.

    Raises:
        SettingsError: settings are wrong.
    """
    try:
        return Settings.model_validate(merge(layers))
    except ValidationError as error:
        problems = without_consequences(error.errors())
        raise SettingsError("\n".join(describe(each, layers) for each in problems)) from None


def without_consequences(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return the problems but for those of a list that is too short without its wrong items."""
    lists = {problem["loc"][:-1] for problem in problems}
    return [each for each in problems if each["type"] != "too_short" or each["loc"] not in lists]


def origins(layers: list[Layer]) -> list[Origin]:
    """Return every setting in force with its source.

    Raises:
        SettingsError: settings are wrong.
    """
    settings, defaults = (each.model_dump(mode="json") for each in (checked(layers), Settings()))
    return [
        Origin(
            section,
            key,
            value,
            source_text(layers, section, key, value),
            defaults[section][key],
        )
        for section, keys in settings.items()
        for key, value in keys.items()
    ]


def source_text(layers: list[Layer], section: str, key: str, value: object) -> str:
    """Return the name of a setting's source, or the sources of a table's entries."""
    if (section, key) not in TABLES or not isinstance(value, Mapping):
        return source_of(layers, section, key)
    by_entry = {entry: source_of(layers, section, key, entry) for entry in value}
    names = set(by_entry.values())
    if len(names) == 1:
        return names.pop()
    return ", ".join(f"{entry}: {source}" for entry, source in by_entry.items())


def from_file(path: Path) -> Layer:
    """Return the layer of a TOML file.

    Raises:
        SettingsError: the file cannot be read, or is not TOML.
    """
    try:
        path = Path(str(in_home(path)))
        return Layer(str(path), tomllib.loads(path.read_text("utf-8-sig")))
    except PydanticCustomError as error:
        raise SettingsError(f"{path}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8; save it in this encoding") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Return the layer of all variables that begin with `CAPTIOND_` and have a value."""
    values: dict[str, Any] = {}
    given: dict[str, dict[str, str]] = {}
    for name, value in environ.items():
        if is_setting(name, value):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            if key:
                given.setdefault(section, {})[key] = value
            else:
                values[section] = value
    return make_layer(ENVIRONMENT, given, separator="__", wrong=values)


def is_setting(name: str, value: str) -> bool:
    """Return whether a variable of the environment is a setting, be it a wrong one."""
    ours = name.startswith(ENV_PREFIX) and name not in NO_SETTINGS
    return ours and bool(value.strip()) and not is_of_kubernetes(name, value)


def from_flags(flags: Mapping[str, Mapping[str, Any]]) -> Layer:
    """Return the layer of the flags that were given."""
    given = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in flags.items()
    }
    return make_layer(COMMAND_LINE, given, separator=".", wrong={})


def make_layer(
    name: str,
    given: Mapping[str, Mapping[str, Any]],
    *,
    separator: str,
    wrong: Mapping[str, Any],
) -> Layer:
    """Return a layer in which the entries of tables are apart from whole settings.

    `separator` is between a table's key and its entry. `wrong` are sections with a value in place
    of keys. They stay in the layer, so that they are reported.
    """
    values: dict[str, Any] = {}
    entries: dict[Name, dict[str, Any]] = {}
    for section, keys in given.items():
        for path, value in keys.items():
            key, _, entry = path.partition(separator)
            if entry and (section, key) in TABLES:
                entries.setdefault((section, key), {})[entry] = value
            else:
                values.setdefault(section, {})[path] = value
    return Layer(name, {**values, **wrong}, entries)


def merge(layers: list[Layer]) -> dict[str, Any]:
    """Return one mapping of all layers. The first layer that sets a value wins."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        for section, keys in layer.values.items():
            if isinstance(keys, Mapping) and isinstance(merged.get(section, {}), dict):
                merged.setdefault(section, {}).update(keys)
            else:
                merged[section] = keys
        for name, entries in layer.entries.items():
            add_entries(merged, name, entries)
    return merged


def add_entries(merged: dict[str, Any], name: Name, entries: Mapping[str, Any]) -> None:
    """Add entries to a table. A malformed table is left unchanged, and is reported later."""
    section, key = name
    keys = merged.setdefault(section, {})
    if not isinstance(keys, dict):
        return
    try:
        table = read_table(keys.get(key, TABLES[name]))
    except PydanticCustomError:
        return
    if isinstance(table, Mapping):
        keys[key] = {**table, **entries}


def source_of(layers: list[Layer], section: str, key: str = "", entry: str = "") -> str:
    """Return the name of the strongest source of a value."""
    return next((layer.name for layer in layers if layer.sets(section, key, entry)), DEFAULT)


def describe(problem: ErrorDetails, layers: list[Layer]) -> str:
    """Return one line for one wrong setting: its source, its key, its value, what is wrong."""
    steps = [step for step in problem["loc"] if isinstance(step, str) and step != "[key]"]
    section, key, entry = (*steps, "", "")[:3]
    source = source_of(layers, section, key, entry)
    name = ".".join(steps)
    if source == ENVIRONMENT:
        name = variable(layers, section, key, entry)
    if problem["type"] == "extra_forbidden":
        return f"{source}: {name}: there is no such setting{hint_for(source, steps)}"
    value = "***" if holds_secret(steps[:2]) else repr(problem["input"])
    return f"{source}: {name} = {value}: {in_words(problem)}"


def hint_for(source: str, steps: list[str]) -> str:
    """Return what was meant by a setting that there is not, as the end of a message."""
    known = {name: [*section.model_fields] for name, section in sections().items()}
    meant = similar(steps, known)
    if source == ENVIRONMENT:
        meant = meant and ENV_PREFIX + meant.replace(".", "__").upper()
        if len(steps) == 1:
            return ENV_HINT
    return f"; did you mean {meant}?" if meant else ""


def holds_secret(steps: list[str]) -> bool:
    """Return whether the value of a setting, or of a whole section, may have a secret in it."""
    return any(secret[: len(steps)] == tuple(steps) for secret in SECRETS)


def variable(layers: list[Layer], section: str, key: str, entry: str) -> str:
    """Return the name of the variable that set a value: that of the entry, or of the table."""
    layer = next(layer for layer in layers if layer.name == ENVIRONMENT)
    own = entry in layer.entries.get((section, key), {})
    steps = filter(None, (section, key, entry if own else ""))
    return ENV_PREFIX + "__".join(steps).upper()

"""How `--help` writes the values of flags: none for a flag that takes none, NUMBER for a number."""

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

NUMBERS = (int, float)


class PlainHelpCommand(TyperCommand):
    """A command whose help has no names of Python's types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters with names for their values."""
        return with_value_names(super().get_params(ctx))


class PlainHelpGroup(TyperGroup):
    """A group of commands whose help has no names of Python's types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters with names for their values."""
        return with_value_names(super().get_params(ctx))


def with_value_names(params: Iterable[Any]) -> list[Any]:
    """Return parameters, whose values have got the names that the help shows."""
    named = [*params]
    for param in named:
        if param.param_type_name == "argument":
            param.display_type_rich = no_type
        elif param.metavar is None:
            param.metavar = value_name(param)
    return named


def no_type(**_: Any) -> str:
    """Return the type of an argument for its help: its name says enough."""
    return ""


def value_name(option: Any) -> str | None:
    """Return what stands for the value of an option in its help. None leaves it to typer."""
    if option.is_flag:
        return ""
    return "NUMBER" if option.type_descriptor.annotation in NUMBERS else None


def use_plain_help(app: typer.Typer) -> None:
    """Give all commands of an application, and of its groups, a plain help."""
    app.info.cls = PlainHelpGroup
    for command in app.registered_commands:
        command.cls = PlainHelpCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use_plain_help(group.typer_instance)

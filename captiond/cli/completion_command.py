"""`captiond completion`: a script that completes commands, flags and their values in a shell.

The script knows all words. A shell that asked captiond for them would wait for the start of Python
at each press of the key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from shlex import quote
from typing import Annotated, Any

import typer

HELP_FLAG = "--help"


class Shell(StrEnum):
    """A shell that captiond has a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, by all its spellings. `values` are what it takes; empty for any text or a file."""

    names: tuple[str, ...]
    takes_value: bool
    values: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    """A command by its full name, with its subcommands or its flags."""

    name: str
    subcommands: dict[str, str]
    flags: tuple[Flag, ...]
    values: tuple[str, ...] = ()  # of its argument


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script that completes commands and flags with the Tab key.

    Load it in the start file of your shell:

    - bash, in ~/.bashrc: source <(captiond completion bash)
    - zsh, in ~/.zshrc after compinit: source <(captiond completion zsh)
    - fish: captiond completion fish > ~/.config/fish/completions/captiond.fish
    """
    nodes = list(nodes_below("captiond", context.find_root().command))
    script = fish_script(nodes) if shell is Shell.FISH else bash_script(nodes)
    if shell is Shell.ZSH:
        script = "autoload -Uz bashcompinit && bashcompinit\n" + script
    typer.echo(script)


def nodes_below(name: str, command: Any) -> Iterator[Node]:
    """Yield a command and all commands below it."""
    subcommands = getattr(command, "commands", {})
    texts = {part: each.get_short_help_str(80) for part, each in subcommands.items()}
    options = [each for each in command.params if each.param_type_name == "option"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    flags = [flag_of(each) for each in options]
    flags.append(Flag((HELP_FLAG,), takes_value=False, values=(), text="Show the help and exit."))
    values = tuple(value for each in arguments for value in choices_of(each))
    yield Node(name, texts, tuple(flags), values)
    for part, subcommand in subcommands.items():
        yield from nodes_below(f"{name} {part}", subcommand)


def flag_of(option: Any) -> Flag:
    return Flag(
        tuple(option.opts),
        takes_value=not option.is_flag,
        values=tuple(choices_of(option)),
        text=(option.help or "").partition(". ")[0].rstrip("."),
    )


def choices_of(parameter: Any) -> list[str]:
    """Return the values that a parameter can have, none if there are too many to list."""
    choices = parameter.type_descriptor.choices or ()
    values = [str(getattr(choice, "value", choice)) for choice in choices]
    cased = parameter.type_descriptor.case_sensitive
    return values if cased else [value.lower() for value in values]


def bash_script(nodes: list[Node]) -> str:
    """Return a script for bash, which zsh can run as well."""
    groups = [f'"{node.name}"' for node in nodes[1:]]
    valued = [
        (" | ".join(f'"{node.name} {name}"' for name in flag.names), " ".join(flag.values))
        for node in nodes
        for flag in node.flags
        if flag.takes_value
    ]
    words = [(f'"{node.name}"', " ".join(node.subcommands), node) for node in nodes]
    lines = [
        "_captiond() {",
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
        "  local path=captiond words= at",
        "  for ((at = 1; at < COMP_CWORD; at++)); do",
        '    case "$path ${COMP_WORDS[at]}" in',
        f'      {" | ".join(groups)}) path="$path ${{COMP_WORDS[at]}}" ;;',
        "    esac",
        "  done",
        '  case "$path $before" in',
        *(f'    {pattern}) words="{values}" ;;' for pattern, values in valued),
        '    *) case "$path" in',
        *(
            f'      {pattern}) if [[ $word == -* ]]; then words="{flag_words(node)}"; '
            f'else words="{subcommands or " ".join(node.values)}"; fi ;;'
            for pattern, subcommands, node in words
        ),
        "    esac ;;",
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -o default -o bashdefault -F _captiond captiond",
    ]
    return "\n".join(lines)


def flag_words(node: Node) -> str:
    return " ".join(name for flag in node.flags for name in flag.names)


def fish_script(nodes: list[Node]) -> str:
    """Return a script for fish."""
    return "\n".join(line for node in nodes for line in fish_lines(node))


def fish_lines(node: Node) -> Iterator[str]:
    """Yield a line for each word that can follow a command."""
    parts = node.name.split()[1:]
    conditions = [f"__fish_seen_subcommand_from {part}" for part in parts]
    if node.subcommands:
        conditions.append(f"not __fish_seen_subcommand_from {' '.join(node.subcommands)}")
    start = f"complete -c captiond -n {quote('; and '.join(conditions) or 'true')}"
    for part, text in node.subcommands.items():
        yield f"{start} -f -a {part} -d {quote(text)}"
    if node.values:
        yield f"{start} -f -a {quote(' '.join(node.values))}"
    for flag in node.flags:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
        )
        value = f" -x -a {quote(' '.join(flag.values))}" if flag.values else " -r"
        yield f"{start} {names}{value if flag.takes_value else ''} -d {quote(flag.text)}"

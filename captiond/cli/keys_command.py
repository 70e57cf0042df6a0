"""`captiond keys`: create, list and revoke the keys of clients."""

import asyncio
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, between, settings_from
from captiond.errors import SettingsError
from captiond.keys import DEFAULT_SCOPES, Key, Limits, Scope, digest_of, new_secret
from captiond.settings.client_settings import (
    LEAST_SHARE,
    LEAST_WEIGHT,
    MAX_NAME,
    MOST,
    MOST_WEIGHT,
    NAME,
    check_body_bytes,
)
from captiond.settings.config import Settings

if TYPE_CHECKING:
    from captiond.cli.key_views import ListedKey

keys_app = typer.Typer(
    no_args_is_help=True,
    help="Create, list and revoke the keys of clients, whether or not the service runs.",
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the key: letters, digits and . _ - @")
]


checked_limit = between(0, MOST)


def checked_body_bytes(value: int | None) -> int | None:
    """Return the value of --body-bytes if a key of the settings could have it as well."""
    try:
        return None if value is None else check_body_bytes(checked_limit(value) or 0)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@keys_app.command()
def create(
    name: Name,
    *,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What the key permits. May be repeated. Default: caption and read."),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            callback=checked_limit,
            help="Number of requests in each window of clients.window_seconds. 0: no limit.",
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(callback=checked_limit, help="Number of simultaneous requests. 0: no limit."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(callback=checked_limit, help="Number of waiting images. 0: no limit."),
    ] = None,
    body_bytes: Annotated[
        int | None,
        typer.Option(
            callback=checked_body_bytes,
            help="Size of all request bodies at the same time, in bytes: at least a megabyte. "
            "0: no limit.",
        ),
    ] = None,
    weight: Annotated[
        float,
        typer.Option(
            callback=between(LEAST_WEIGHT, MOST_WEIGHT),
            help="Weight in fair turns. A client of weight 2 has twice as many turns as others.",
        ),
    ] = 1.0,
    share: Annotated[
        float,
        typer.Option(
            callback=between(LEAST_SHARE, 1), help="Part of the queues that the client may fill."
        ),
    ] = 1.0,
    only_print: Annotated[
        bool,
        typer.Option(
            "--print",
            help="Do not store the key. Print its entry for a file of keys to standard output, and "
            "the key to standard error.",
        ),
    ] = False,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Create a key, and print it. It is shown only now, since only its hash is stored.

    As soon as there is any key, every request that captions images, or that reads or cancels
    tasks, needs one. If a limit is not given, that of the settings applies.
    """
    from captiond.cli import key_views

    settings = settings_from(config, {}, data=data, assignments=assignments)
    check_name(name)
    secret = new_secret()
    key = Key(
        name=name,
        digest=digest_of(secret.encode()),
        scopes=frozenset(scope or DEFAULT_SCOPES),
        weight=weight,
        share=share,
        limits=Limits(requests, concurrent, images, body_bytes),
    )
    if only_print:
        typer.echo(key_views.file_entry(key))
        typer.echo(f"the key of {name}: {secret}", err=True)
        return
    asyncio.run(store(settings, key))
    typer.echo(f"{name}: created with the id {key.id}; this is the key:", err=True)
    typer.echo(secret)


@keys_app.command("list")
def list_keys(*, config: Config = None, data: Data = None, assignments: Set = None) -> None:
    """List all keys with their scopes and limits: as a table on a terminal, as JSON in a pipe.

    The keys of the settings and of the file of keys are listed, too. Keys in a systemd credential
    are listed only if the command has this credential, as the service has it.
    """
    from captiond.cli import key_views

    settings = settings_from(config, {}, data=data, assignments=assignments)
    key_views.show_keys(asyncio.run(all_keys(settings)), sys.stdout)


@keys_app.command()
def revoke(
    name: Name,
    *,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete the key as well. If no key is left, requests need none."
        ),
    ] = False,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Revoke a key of the database. A running service refuses it within a second.

    To revoke a key of the settings or of a file, remove it from there.
    """
    settings = settings_from(config, {}, data=data, assignments=assignments)
    asyncio.run(end_key(settings, name, delete=delete))
    typer.echo(f"{name}: {'deleted' if delete else 'revoked'}")


def check_name(name: str) -> None:
    """Return if the name can be that of a key. Raises SettingsError."""
    if not re.match(NAME, name):
        raise SettingsError(
            f"command line: {name!r}: a name has 1 to {MAX_NAME} letters, digits and . _ - @"
        )


async def store(settings: Settings, key: Key) -> None:
    """Store a key. The database is created if there is none.

    Raises:
        KeyExists: there is a key with this name.
        StartupError, StoreError: the database cannot be used.
    """
    from captiond.cli.database import created, has_database, opened
    from captiond.store.credentials import add_key

    if not has_database(settings):
        await created(settings)
    async with opened(settings) as engine:
        await add_key(engine, key, now=time.time())


async def all_keys(settings: Settings) -> list["ListedKey"]:
    """Return the keys of the settings, of files and of the database.

    Raises:
        SettingsError: a file of keys cannot be read.
        StartupError, StoreError: the database cannot be used.
    """
    from captiond.cli.database import has_database, opened
    from captiond.cli.key_views import ListedKey
    from captiond.settings.keyfiles import key_files, named, read_keys
    from captiond.store.credentials import stored_keys

    keys = [ListedKey(key, "settings") for key in named(settings.keys.named)]
    for path in key_files(settings.keys, os.environ):
        keys += [ListedKey(key, str(path)) for key in read_keys(path)]
    if has_database(settings) or not keys:
        async with opened(settings) as engine:
            stored = await stored_keys(engine)
        keys += [ListedKey(s.key, "database", s.created_at, s.revoked_at) for s in stored.keys]
        for key_id in stored.damaged:
            typer.echo(
                f"captiond: the key with the id {key_id} is damaged; create another", err=True
            )
    return keys


async def end_key(settings: Settings, name: str, *, delete: bool) -> None:
    """Revoke or delete a key.

    Raises:
        KeyNotFound: the database has no such key.
        StartupError, StoreError: the database cannot be used.
    """
    from captiond.cli.database import opened
    from captiond.store.credentials import delete_key, revoke_key

    async with opened(settings) as engine:
        if delete:
            await delete_key(engine, name)
        else:
            await revoke_key(engine, name, now=time.time())

"""Errors of settings and commands. Most of them are never sent over HTTP."""

from captiond.errors.captiond_error import CaptiondError


class StartupError(CaptiondError):
    """captiond cannot start with these settings; the message says how to correct them."""

    code = "startup_error"


class SettingsError(StartupError):
    """A setting is wrong; the message names the file, the key and the value."""

    code = "settings_error"


class DatabaseUnusable(StartupError):
    """The database file is corrupt, unreadable, or newer than this captiond."""

    code = "database_unusable"


class BackupFailed(CaptiondError):
    """The database could not be copied; the message says why, and what to do."""

    code = "backup_failed"


class CopyFailed(CaptiondError):
    """The database could not be copied into another one; the message says why, and what to do."""

    code = "copy_failed"


class AlreadyRunning(StartupError):
    """Another captiond is running on the same data folder."""

    code = "already_running"


class KeyExists(CaptiondError):
    """There is a key with this name already."""

    code = "key_exists"


class KeyNotFound(CaptiondError):
    """The database has no key with this name."""

    code = "key_not_found"


class ImportNotFound(CaptiondError):
    """The database has no import with this id."""

    code = "import_not_found"
    status = 404


class ImportCancelled(CaptiondError):
    """The import is cancelled. Its finished results stay."""

    code = "import_cancelled"

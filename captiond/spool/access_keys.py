"""The access key of object storage that the settings name, which obstore asks for when it needs it.

A key in a file may change while the service runs, so it is read again every minute. A key of the
settings is complete: a session token in the environment does not belong to it.
"""

from collections.abc import Callable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from captiond.errors import SettingsError
from captiond.settings.upload_settings import UploadSettings

if TYPE_CHECKING:
    from obstore.store import S3Credential

PROFILE, ACCESS_KEY, SECRET_KEY = "default", "aws_access_key_id", "aws_secret_access_key"
SESSION_TOKEN = "aws_session_token"  # noqa: S105 - the name of an entry
# obstore asks again five minutes before a key expires.
LIFETIME = timedelta(minutes=6)
KeyProvider = Callable[[], "S3Credential"]


def key_provider(settings: UploadSettings) -> KeyProvider | None:
    """Return a function that returns the access key, or None if the environment has to give one.

    Raises:
        SettingsError: the file of the settings cannot be read.
    """
    if settings.access_key_id:
        secret = settings.secret_access_key.get_secret_value()
        return lambda: credential(settings.access_key_id, secret, None, None)
    if (path := settings.credentials) is not None:
        key_of(path)  # so that a wrong file is an error of the start
        return lambda: key_of(path)
    return None


def key_of(path: Path) -> "S3Credential":
    """Return the access key in a file. Raises SettingsError."""
    profile = read_profile(path)
    expires = datetime.now(UTC) + LIFETIME
    return credential(profile[ACCESS_KEY], profile[SECRET_KEY], profile.get(SESSION_TOKEN), expires)


def credential(
    key: str, secret: str, token: str | None, expires: datetime | None
) -> "S3Credential":
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": expires,
    }


def read_profile(path: Path) -> Mapping[str, str]:
    """Return the profile `default` of a file of credentials.

    Raises:
        SettingsError: the file cannot be read, or has no access key. The message has no secret.
    """
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (ConfigError, UnicodeDecodeError):
        raise SettingsError(f"{path}: not a file of AWS credentials") from None
    if not parser.has_option(PROFILE, ACCESS_KEY) or not parser.has_option(PROFILE, SECRET_KEY):
        raise SettingsError(f"{path}: [{PROFILE}] has no {ACCESS_KEY} or no {SECRET_KEY}")
    return dict(parser[PROFILE])

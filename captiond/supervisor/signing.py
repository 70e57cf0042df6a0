"""The secret that signs webhooks, and the signature of the Standard Webhooks specification."""

import os
import secrets
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

from captiond.callbacks import SIGNING_PREFIX, check_signing_secret
from captiond.errors import StartupError
from captiond.settings.config import Settings
from captiond.spool import sync_folder

SECRET_BYTES = 32


def signing_secrets(settings: Settings) -> list[str]:
    """Return the secrets that sign webhooks: those of the settings, or the data folder's.

    The data folder's secret is created if there is none.

    Raises:
        StartupError: the file cannot be created or read, or it holds no valid secret.
    """
    given = settings.webhooks.secret.get_secret_value().split()
    if given:
        return given
    path = settings.signing_secret
    try:
        content = path.read_text("ascii") if path.exists() else create_secret(path)
        stored = content.split()
        for secret in stored:
            check_signing_secret(secret)
    except OSError as error:
        raise StartupError(
            f"{path}: cannot be used: {error.strerror}; give this user the right to read it, or "
            "set [webhooks] secret"
        ) from error
    except ValueError as error:
        raise StartupError(f"{path}: {error}; correct it, or remove the file") from error
    if not stored:
        raise StartupError(f"{path}: holds no secret; correct it, or remove the file")
    return stored


def create_secret(path: Path) -> str:
    """Create the file of the secret, readable for this user only. Return its content.

    The file gets its name once it is complete and durable, so it never holds half a secret.
    """
    secret = SIGNING_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(descriptor)
    part.rename(path)
    sync_folder(path.parent)
    return secret


def signed_headers(keys: list[str], webhook_id: str, now: float, body: str) -> dict[str, str]:
    """Return the headers of a webhook call at the Unix time `now`.

    There is one signature for each key. The receiver accepts the call if one of them is valid.
    """
    from standardwebhooks import Webhook

    at = datetime.fromtimestamp(now, UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(Webhook(key).sign(webhook_id, at, body) for key in keys),
    }

"""The secret that signs webhooks, and the signature of Standard Webhooks."""

import os
import secrets
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

from captiond.config import SIGNING_PREFIX, Settings, check_signing_secret
from captiond.errors import StartupError
from captiond.spool import sync_folder

SECRET_BYTES = 32


def signing_secrets(settings: Settings) -> list[str]:
    """The secrets in force: those of the settings, else the data folder's, made if it has none.

    Raises:
        StartupError: the file cannot be made or read, or holds no secret.
    """
    given = settings.webhooks.secret.get_secret_value().split()
    if given:
        return given
    path = settings.signing_secret
    try:
        kept = path.read_text("ascii") if path.exists() else make_secret(path)
        found = kept.split()
        for secret in found:
            check_signing_secret(secret)
    except OSError as error:
        raise StartupError(
            f"{path}: cannot be used: {error.strerror}; give this user the right to read it, or "
            "set [webhooks] secret"
        ) from error
    except ValueError as error:
        raise StartupError(f"{path}: {error}; put it right, or remove the file") from error
    if not found:
        raise StartupError(f"{path}: holds no secret; put it right, or remove the file")
    return found


def make_secret(path: Path) -> str:
    """Make the file, whole or not at all, for this user's eyes only."""
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
    """The headers of a call made `now`; one signature for each key, the receiver needs one."""
    from standardwebhooks import Webhook

    at = datetime.fromtimestamp(now, UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(Webhook(key).sign(webhook_id, at, body) for key in keys),
    }

"""Idempotency-Key: a request that a client sends again with its key creates no second task."""

import hashlib
import json
import re

from starlette.requests import Request

from captiond.errors import BadKey
from captiond.web.uploading.forms import Form

KEY = re.compile(r"[\x21-\x7e]{1,255}")


def key_of(request: Request) -> str | None:
    """Return the request's Idempotency-Key, or None if it has none.

    Raises:
        BadKey: the key is empty, too long, or has other than printable ASCII characters.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise BadKey("an Idempotency-Key is 1 to 255 printable ASCII characters without spaces")
    return key


def digest_of(form: Form) -> str:
    """Return a hash of the form: its files in their order, and its fields.

    Two requests with the same key must have the same digest.
    """
    files = [
        (upload.filename, upload.image.sha256)
        if upload.image
        else (upload.filename, repr(upload.refused), upload.sha256)
        for upload in form.uploads
    ]
    content = json.dumps([files, sorted(form.fields.items())])
    return hashlib.sha256(content.encode()).hexdigest()

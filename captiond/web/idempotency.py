"""Idempotency-Key: the same request, sent again, is the same task."""

import hashlib
import json
import re

from starlette.requests import Request

from captiond.errors import BadKey
from captiond.web.uploads import Form

KEY = re.compile(r"[\x21-\x7e]{1,255}")


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key; None where it has none.

    Raises:
        BadKey: it is too long, or has other characters than printable ASCII.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise BadKey("an Idempotency-Key is 1 to 255 printable ASCII characters without spaces")
    return key


def digest_of(form: Form) -> str:
    """A hash of all that makes two requests the same: files in their order, and fields."""
    files = [
        (upload.filename, upload.image.sha256 if upload.image else repr(upload.refused))
        for upload in form.uploads
    ]
    said = json.dumps([files, sorted(form.fields.items())])
    return hashlib.sha256(said.encode()).hexdigest()

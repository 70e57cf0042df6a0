"""What to send instead of a request that cannot be what was meant."""

from starlette.requests import Request

from captiond.web.uploading.forms import Form, FormSpec

MAX_NAMES = 5
CODINGS = {"gzip", "x-gzip", "deflate", "compress", "br", "zstd"}


def hint_for(kind: bytes | None, spec: FormSpec, form: Form, coding: str | None = None) -> str:
    """Return a hint for a request without an image.

    `kind` is the media type of a body that was not read, or None if the body became `form`. It may
    be compressed with `coding`.
    """
    if coding is not None:
        return uncompressed(coding)
    send = (
        f"send multipart/form-data with a file in {spec.field!r} "
        f"(curl -F {spec.field}=@cat.jpg), or application/json with {spec.field!r} in base64"
    )
    if kind is not None:
        return f"{of_type(kind)}; {send}"
    if form.document is not None and spec.field in form.document:
        return f"there is no image in {spec.field!r}; {send}"
    if form.document is not None:
        return f"the JSON body has no {spec.field!r}, but {named(list(form.document))}; {send}"
    if spec.field in form.fields:
        return f"the part {spec.field!r} has no file name, so it is not a file; {send}"
    if form.ignored:
        return f"the file must be in {spec.field!r}, but there is one in {named(form.ignored)}"
    return f"the form has no file; {send}"


def coding_of(request: Request) -> str | None:
    """Return how the client says that it has compressed the body, or None.

    Some clients say so without doing it. The service that captiond replaces ignored the header, and
    so does captiond unless the body cannot be read.
    """
    coding = request.headers.get("content-encoding", "").strip().lower()
    return coding if coding in CODINGS else None


def uncompressed(coding: str) -> str:
    """Return a hint for a body that may be compressed."""
    return f"bodies are not decompressed: send it as it is, without Content-Encoding: {coding}"


def of_type(kind: bytes) -> str:
    """Return what is wrong with a body of this media type."""
    if not kind:
        return "the request has no Content-Type"
    if kind.startswith(b"image/"):
        return "the body is the image itself, not a form"
    return f"the Content-Type is {kind[:80].decode('latin-1')}"


def named(names: list[str]) -> str:
    """Return the first of some names, for people."""
    return ", ".join(repr(name[:60]) for name in names[:MAX_NAMES]) or "no key"

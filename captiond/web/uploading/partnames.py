"""The names in a multipart body: their charsets, and the forms in which clients write them."""

import re
from binascii import Error, a2b_base64
from collections.abc import Mapping
from quopri import decodestring
from urllib.parse import unquote_to_bytes

UTF_8 = "utf-8"
# Charsets of names, beside UTF-8. Some other codecs of Python are slow, or decode more than text.
CHARSET = re.compile(
    rb"iso-8859-\d\d?|windows-125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gb(?:k|2312|18030)|big5",
    re.IGNORECASE,
)
# A parameter of a header. `filename*` may be in numbered pieces; those with a second * are encoded.
PARAMETER = re.compile(
    rb';\s*(?:filename\*(\d{0,2})(\*?)|[^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.IGNORECASE
)
EXTENDED_VALUE = re.compile(rb"([\w-]{0,40})'[\w-]{0,40}'(.*)", re.DOTALL)
ENCODED_WORD = re.compile(rb"=\?([\w-]{1,40})\?([bq])\?([^?]*)\?=", re.IGNORECASE)
ENCODED_WORDS = re.compile(rb"(?:=\?[\w-]{1,40}\?[bq]\?[^?]*\?=\s*)+", re.IGNORECASE)


def filename_of(
    disposition: bytes, parameters: Mapping[bytes, bytes], charset: str = UTF_8
) -> str | None:
    """Return the file name of a part, or None if it has none.

    Clients write a name that is not ASCII as `filename*`, alone or beside an encoded word, or as an
    encoded word alone, although RFC 7578 forbids both in forms. python-multipart reads neither.
    """
    filename = parameters.get(b"filename")
    if filename is None:
        return extended_name(disposition)
    if ENCODED_WORDS.fullmatch(filename):
        return extended_name(disposition) or worded_name(filename)
    return text(filename, charset)


def extended_name(disposition: bytes) -> str | None:
    """Return the name in `filename*` (RFC 5987), or in pieces of it (RFC 2231); None without it."""
    pieces: dict[int, tuple[bytes, bool]] = {}
    for found in PARAMETER.finditer(disposition):
        number, star, value = found.groups()
        if number is not None:
            pieces[int(number or 0)] = unquoted(value), bool(star or not number)
    if not pieces:
        return None
    ordered = [pieces[number] for number in sorted(pieces)]
    charset, first = charset_and_value(ordered[0][0]) if ordered[0][1] else (UTF_8, ordered[0][0])
    values = [(first, ordered[0][1]), *ordered[1:]]
    return text(b"".join(unquote_to_bytes(raw) if coded else raw for raw, coded in values), charset)


def charset_and_value(value: bytes) -> tuple[str, bytes]:
    found = EXTENDED_VALUE.fullmatch(value)
    return (charset_by(found[1]), found[2]) if found else (UTF_8, value)


def unquoted(value: bytes) -> bytes:
    stripped = value.strip()
    return re.sub(rb"\\(.)", rb"\1", stripped[1:-1]) if stripped.startswith(b'"') else stripped


def worded_name(words: bytes) -> str:
    """Return the text of encoded words (RFC 2047)."""
    return "".join(
        text(decoded_word(found[2], found[3]), charset_by(found[1]))
        for found in ENCODED_WORD.finditer(words)
    )


def decoded_word(coding: bytes, content: bytes) -> bytes:
    if coding in b"qQ":
        return decodestring(content, header=True)
    try:
        return a2b_base64(content)
    except Error:
        return content


def text(value: bytes, charset: str = UTF_8) -> str:
    """Decode a name or a field. What is not in its charset is read as ISO 8859-1.

    The framework of the service that captiond replaces does the same, so files whose names differ
    have different names in the results.
    """
    try:
        return value.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return value.decode("latin-1")


def charset_of(parameters: Mapping[bytes, bytes]) -> str:
    """Return the charset of the names in a multipart body, by the parameters of its Content-Type.

    It is UTF-8, as RFC 7578 has it, unless an older client says otherwise.
    """
    return charset_by(parameters.get(b"charset", b""))


def charset_by(name: bytes) -> str:
    """Return a charset that names may have; UTF-8 for all others."""
    found = CHARSET.fullmatch(name)
    return UTF_8 if found is None else found[0].decode()

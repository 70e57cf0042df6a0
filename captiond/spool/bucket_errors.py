"""What the errors of obstore mean, and what an operator can do about them.

obstore tells a few kinds of errors apart. Its message has the rest: the status and the code of the
response in the first part, and what the operating system said in a second one, for programmers.
Neither has a secret.
"""

import re

from captiond.errors import NoSpace, SpoolError
from captiond.spool.unavailable import StorageUnavailable

FOR_PROGRAMMERS = "\n\nDebug source"
CODE = re.compile(r"(?:<Code>|\(code: )(\w+)")  # of a response, or of one object of several
STATUS = re.compile(r"status code: (\d{3})")
HOST = re.compile(r"(https?://[^/\s]+)")
CAUSE = re.compile(r'(?:message|error): "([^"]+)"')  # of the operating system, or of a name
CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
KEY_PROVIDER = re.compile(r"credential provider: \w+: (.+)")
MACHINE_ROLE = "/latest/"  # in the URL of the service that gives machines their role
FULL = {"QuotaExceeded", "QuotaExceededException", "InsufficientCapacity", "StorageFull"}
FULL |= {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
NO_BUCKET, NO_OBJECT, NO_RIGHT = "NoSuchBucket", "NoSuchKey", "AccessDenied"
INSUFFICIENT_STORAGE, OUT_OF_RANGE, REFUSED = "507", "416", {"401", "403"}  # statuses


def translated(error: Exception, url: str, done: str) -> SpoolError | NoSpace | StorageUnavailable:
    """Return captiond's error for one of obstore; `done` says what was to be done with objects.

    Only a storage that says that it has no such object is believed. A 404 may also come from a
    proxy that is not set up yet, and images must not fail because of it.
    """
    text = response_of(error)
    code, status = first(CODE, text), first(STATUS, text)
    if code in FULL or status == INSUFFICIENT_STORAGE:
        return NoSpace("the object storage is full; nothing was accepted")
    if code == NO_OBJECT:
        return SpoolError("the uploaded file is gone from the object storage")
    if status == OUT_OF_RANGE:
        return SpoolError("the uploaded file is cut short in the object storage")
    if code == NO_BUCKET:
        return StorageUnavailable(f"{url}: there is no such bucket; create it, or correct the URL")
    if status in REFUSED or code == NO_RIGHT:
        return StorageUnavailable(
            f"{url}: objects cannot be {done} ({code or 'access denied'}); check the credentials, "
            "and what the policy of the bucket allows them"
        )
    if code or status:
        return StorageUnavailable(f"{url}: objects cannot be {done}: {code or f'status {status}'}")
    return without_answer(str(error), url)


def without_answer(text: str, url: str) -> StorageUnavailable:
    """Return what to do about a request that got no answer, or could not be made.

    The message is the same for the same cause. Times and numbers of attempts, which obstore's has,
    would give each failure a log line of its own.
    """
    if reason := first(KEY_PROVIDER, text):
        return StorageUnavailable(f"{url}: there is no access key: {reason}")
    if MACHINE_ROLE in text.partition(FOR_PROGRAMMERS)[0]:
        return StorageUnavailable(
            f"{url}: there is no access key, and this machine has no role that gives it one; set "
            "[uploads] credentials, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    untrusted = first(CERTIFICATE, text)
    what = "[uploads] ca" if untrusted else "[uploads] endpoint and region, and the network"
    why = cause_of(text)
    host = first(HOST, text)
    return StorageUnavailable(
        f"{url}: the storage{f' at {host}' if host else ''} cannot be reached: {why}; check {what}"
    )


def reason_of(error: Exception) -> str:
    """Return why a request failed, in a few words that are the same for the same cause."""
    text, response = str(error), response_of(error)
    if code := first(CODE, response):
        return code
    if status := first(STATUS, response):
        return f"status {status}"
    return first(KEY_PROVIDER, text) or cause_of(text)


def response_of(error: Exception) -> str:
    """Return the first part of an error's text, which is not for programmers."""
    return str(error).partition(FOR_PROGRAMMERS)[0]


def cause_of(text: str) -> str:
    """Return why a request got no answer, from the text of its error."""
    if untrusted := first(CERTIFICATE, text):
        return f"its certificate is not trusted ({untrusted})"
    causes = CAUSE.findall(text) or [text.strip().partition("\n")[0].rpartition(" - ")[2]]
    return str(causes[-1])


def first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""

"""The error of a storage on other machines that does not do what it is asked to do now."""

from captiond.errors import StoreError


class StorageUnavailable(StoreError):
    """The object storage cannot be reached, or refuses requests. Nothing was accepted.

    The message is for the operator. It names the bucket, and no secret.
    """

    code = "storage_unavailable"
    status = 503
    retry_after = 30

"""The errors that only the dialects raise."""

from captiond.errors import RequestError


class NoImage(RequestError):
    """A request of a dialect has no image."""

    code = "no_image"


class ModelUnknown(RequestError):
    """A request of a dialect names a model that captiond does not run."""

    code = "model_not_found"
    status = 404


class SchemaRefused(RequestError):
    """The JSON schema of a request is not valid, or asks for too much."""

    code = "schema_refused"


class EmptyResult(RequestError):
    """The caption or its tags are empty, in a dialect whose clients take that for a failure."""

    code = "empty_result"
    status = 422

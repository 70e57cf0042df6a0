"""The text of `captiond openapi`."""

import json

from captiond.web.openapi.document import document
from captiond.web.openapi.examples import stored_examples
from captiond.web.operations import OPERATIONS


def openapi_text() -> str:
    """Return the OpenAPI document as JSON for people."""
    return json.dumps(document(OPERATIONS, stored_examples()), ensure_ascii=False, indent=2)

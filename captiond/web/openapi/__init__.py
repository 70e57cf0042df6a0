"""The OpenAPI document of the HTTP API, made from the table of operations, and its page."""

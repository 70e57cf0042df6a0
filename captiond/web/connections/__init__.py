"""Connections, and HTTP/1.1 on them: from bytes to requests, and from responses to bytes."""

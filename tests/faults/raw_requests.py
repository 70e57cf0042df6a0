"""Requests as bytes, for clients that send a part of them, or send them slowly."""

MULTIPART = {"Content-Type": "multipart/form-data; boundary=edge"}


def part(name: str, content: bytes) -> bytes:
    """Return one file of a form."""
    head = f'--edge\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def request(body: bytes) -> bytes:
    """Return a request for a task with this body."""
    head = (
        "POST /async-batch-caption HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

"""Forms as real clients write them: the bytes that each client puts around a file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from captiond.jobs import Captioned
from captiond.store.engine import Engine
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", (), "m", 4, 3)
GUID = "71e9da95-c5e7-4a9b-901a-ededd613dcd4"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


CLIENTS = {
    "curl 8, Firefox and Chromium": (
        "multipart/form-data; boundary=------------------------d74496d66958873e",
        b"--------------------------d74496d66958873e\r\n"
        b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%s\r\n"
        b"--------------------------d74496d66958873e--\r\n",
        "cat.png",
    ),
    "Python requests and urllib3": (
        "multipart/form-data; boundary=0f755c8a2fd0d6ca51a25a3ea4b7bd4b",
        b"--0f755c8a2fd0d6ca51a25a3ea4b7bd4b\r\n"
        b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\n\r\n%s\r\n'
        b"--0f755c8a2fd0d6ca51a25a3ea4b7bd4b--\r\n",
        "cat.png",
    ),
    "urllib3 before 1.25, a name that is not ASCII": (
        "multipart/form-data; boundary=xyz",
        b'--xyz\r\nContent-Disposition: form-data; name="image"; '
        b"filename*=utf-8''%%D1%%84.png\r\n"
        b"Content-Type: image/png\r\n\r\n%s\r\n--xyz--\r\n",
        "\u0444.png",
    ),
    "httpx": (
        "multipart/form-data; boundary=b7c2",
        b'--b7c2\r\nContent-Disposition: form-data; name="image"; '
        b'filename="f\xc3\xbcnf%%22.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%s\r\n--b7c2--\r\n",
        "f\u00fcnf%22.png",
    ),
    "fetch of Node (undici)": (
        "multipart/form-data; boundary=----formdata-undici-037264930915",
        b"------formdata-undici-037264930915\r\n"
        b'Content-Disposition: form-data; name="image"; filename="blob"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n"
        b"------formdata-undici-037264930915--",
        "blob",
    ),
    "Go's mime/multipart": (
        "multipart/form-data; boundary=3fbd43f6dd1a6a8e2c60e3f6f8bd3a37a4a4e2b4a3a1d2c3b4e5f60718",
        b"--3fbd43f6dd1a6a8e2c60e3f6f8bd3a37a4a4e2b4a3a1d2c3b4e5f60718\r\n"
        b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n"
        b"--3fbd43f6dd1a6a8e2c60e3f6f8bd3a37a4a4e2b4a3a1d2c3b4e5f60718--\r\n",
        "cat.png",
    ),
    ".NET's HttpClient": (
        f'multipart/form-data; boundary="{GUID}"',
        f"--{GUID}\r\n".encode() + b"Content-Disposition: form-data; name=image; filename=cat.png; "
        b"filename*=utf-8''cat.png\r\n\r\n%s\r\n" + f"--{GUID}--\r\n".encode(),
        "cat.png",
    ),
    ".NET's HttpClient, a name that is not ASCII": (
        f'multipart/form-data; boundary="{GUID}"',
        f"--{GUID}\r\n".encode()
        + b'Content-Disposition: form-data; name=image; filename="=?utf-8?B?ZsO8bmYucG5n?="; '
        b"filename*=utf-8''f%%C3%%BCnf.png\r\n\r\n%s\r\n" + f"--{GUID}--\r\n".encode(),
        "f\u00fcnf.png",
    ),
    "Apache HttpClient of Java": (
        "multipart/form-data; charset=ISO-8859-1; boundary=mHbQxDmjHAxNNJYFKMFLYwNyQW0",
        b"--mHbQxDmjHAxNNJYFKMFLYwNyQW0\r\n"
        b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n%s\r\n"
        b"--mHbQxDmjHAxNNJYFKMFLYwNyQW0--\r\n",
        "cat.png",
    ),
    "OkHttp of Java": (
        "multipart/form-data; boundary=f0f1a5b6-7a3e-4c58-8f0e-9a4f2a1f8c11",
        b"--f0f1a5b6-7a3e-4c58-8f0e-9a4f2a1f8c11\r\n"
        b'Content-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\nContent-Length: 17\r\n\r\n%s\r\n"
        b"--f0f1a5b6-7a3e-4c58-8f0e-9a4f2a1f8c11--\r\n",
        "cat.png",
    ),
    "wget --post-file with a body that a script has written": (
        "multipart/form-data; boundary=FILEUPLOAD",
        b'--FILEUPLOAD\r\nContent-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%s\r\n--FILEUPLOAD--",
        "cat.png",
    ),
    "header names in lower case, nothing optional": (
        "Multipart/Form-Data; Boundary=e",
        b"--e\r\ncontent-disposition:form-data;name=image;filename=cat.png\r\n\r\n%s\r\n--e--",
        "cat.png",
    ),
    "a file name with quotes, as curl 7 writes it": (
        "multipart/form-data; boundary=e",
        b'--e\r\nContent-Disposition: form-data; name="image"; filename="a\\"b;c.png"\r\n\r\n'
        b"%s\r\n--e--\r\n",
        'a"b;c.png',
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_form_of_this_client(web: WebProcess, client: str) -> None:
    kind, template, name = CLIENTS[client]
    body = template % PNG
    sending = asyncio.create_task(
        web.client.post("/caption", content=body, headers={"Content-Type": kind})
    )
    await web.answer(CAPTION)
    response = await sending
    assert (response.status_code, response.json().get("filename")) == (200, name)

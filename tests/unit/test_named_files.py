"""Images that requests name by their path: nothing outside the root, and regular files only."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from captiond.errors import FileTooLarge, NotAnImage, PathRefused, StorageFailed
from captiond.imagetypes import check_type
from captiond.jobs import Captioned
from captiond.messages import Answer, Ask, State
from captiond.settings.client_settings import ClientSettings
from captiond.settings.config import ImageSettings, LimitSettings
from captiond.spool import FolderSpool
from captiond.store.engine import Engine
from captiond.web.uploading import named_files
from captiond.web.uploading.named_files import PIECE, copy_named, open_place, opened_beneath
from tests.answers import BY_NAME, check
from tests.descriptors import open_beneath
from tests.unit.webprocess import HEALTHY, PNG, WebProcess, web_process

SECRET = b"secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with files and traps, and a secret beside it."""
    folder = tmp_path / "root"
    (folder / "album").mkdir(parents=True)
    (folder / "album" / "cat.png").write_bytes(PNG)
    (folder / "Ünï cödé\n.png").write_bytes(PNG)
    (folder / "note.txt").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "large.png").write_bytes(PNG + bytes(20_000))
    (tmp_path / "secret.png").write_bytes(SECRET)
    (folder / "out.png").symlink_to("../secret.png")
    (folder / "absolute.png").symlink_to(tmp_path / "secret.png")
    (folder / "in.png").symlink_to("album/cat.png")
    (folder / "up").symlink_to("..")
    (folder / "proc").symlink_to("/proc/self/root")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server, chdir(folder):
        server.bind("socket.png")  # the path of a socket has at most 107 bytes
    return folder


def content(root: Path, path: str) -> bytes:
    with opened_beneath(root, path) as file:
        return file.read()


@pytest.mark.parametrize(
    "path", ["album/cat.png", "./album/./cat.png", "album//cat.png", "Ünï cödé\n.png"]
)
def test_a_file_under_the_root_is_read(root: Path, path: str) -> None:
    assert content(root, path) == PNG


REFUSED = [
    ("../secret.png", "must not have .."),
    ("album/../album/cat.png", "must not have .."),
    ("album/../../secret.png", "must not have .."),
    ("..", "must not have .."),
    ("/etc/passwd", "must be relative"),
    ("//etc/passwd", "must be relative"),
    ("out.png", "symbolic links are not followed"),
    ("absolute.png", "symbolic links are not followed"),
    ("in.png", "symbolic links are not followed"),
    ("up/secret.png", "symbolic links are not followed"),
    ("proc/etc/passwd", "symbolic links are not followed"),
    ("loop", "symbolic links are not followed"),
    ("loop/x", "no such file"),
    ("pipe.png", "no regular file"),
    ("socket.png", "no regular file"),
    ("album", "no regular file"),
    ("album/", "names no file"),
    ("album/cat.png/", "names no file"),
    ("album/cat.png/x", "no such file"),
    ("album/dog.png", "no such file"),
    ("...", "no such file"),
    ("..\\secret.png", "no such file"),
    ("%2e%2e/secret.png", "no such file"),
    ("a" * 300, "no such file"),
    ("", "names no file"),
    (".", "names no file"),
    ("album/cat.png\0", "names no file"),
    ("\0", "names no file"),
    ("a/" * 3000 + "a", "names no file"),
    ("file:///etc/passwd", "no such file"),
    ("http://127.0.0.1/x.png", "no such file"),
    ("~/x", "no such file"),
]


@pytest.mark.parametrize(("path", "reason"), REFUSED)
def test_what_is_no_regular_file_under_the_root_is_refused(
    root: Path, path: str, reason: str
) -> None:
    with pytest.raises(PathRefused, match=reason):
        content(root, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a device")
def test_a_device_is_not_opened(root: Path) -> None:
    os.mknod(root / "zero.png", 0o020666, os.makedev(1, 5))
    with pytest.raises(PathRefused, match="no regular file"):
        content(root, "zero.png")


@pytest.mark.parametrize(("name", "read"), [("album", None), ("cat.png", PNG)])
def test_a_folder_that_is_exchanged_meanwhile_leads_nowhere_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: bytes | None
) -> None:
    """Replace a folder by a link that leads outside, just before `name` in it is opened."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "cat.png").write_bytes(SECRET)

    def opening(part: str, flags: int, folder: int, stack: ExitStack) -> int:
        if part == name:
            (root / "album").rename(root / "aside")
            (root / "album").symlink_to(outside)
        return open_place(part, flags, folder, stack)

    monkeypatch.setattr(named_files, "open_place", opening)
    if read is not None:
        assert content(root, "album/cat.png") == read
    else:
        with pytest.raises(PathRefused):
            content(root, "album/cat.png")


def test_no_descriptor_stays_open(root: Path) -> None:
    with (root / "album" / "cat.png").open():
        assert len(open_beneath(root)) == 1
    for path, _ in REFUSED:
        with pytest.raises(PathRefused):
            content(root, path)
    content(root, "album/cat.png")
    assert open_beneath(root) == []


def test_a_root_that_is_gone_is_a_fault_of_the_service(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"\[images\] root cannot be opened"):
        content(tmp_path / "gone", "a.png")


def test_a_file_that_is_refused_is_not_read_whole(root: Path, tmp_path: Path) -> None:
    """A request of a few bytes may name a hundred such files."""
    for name, content in (("huge.png", PNG), ("film.mp4", b"film")):
        with (root / name).open("wb") as file:
            file.write(content)
            file.truncate(1_000_000)
    for name, limit, most in (("huge.png", 2 * PIECE, 0), ("film.mp4", 9_000_000, PIECE)):
        writer = FolderSpool(tmp_path).writer("web0", durable=False)
        writer.begin()
        with pytest.raises((FileTooLarge, NotAnImage)):
            copy_named(root, name, writer, check=check_png, limit=limit, share=100_000)
        assert writer.size <= most
        writer.discard()


def test_a_file_that_grows_is_not_read_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "grows.png").write_bytes(PNG)
    monkeypatch.setattr(named_files, "read_piece", lambda file: PNG + bytes(100_000))
    writer = FolderSpool(tmp_path).writer("web0", durable=False)
    writer.begin()
    with pytest.raises(FileTooLarge):
        copy_named(root, "grows.png", writer, check=check_png, limit=1_000_000, share=300_000)
    assert writer.unwritten <= 600_000
    writer.discard()


def check_png(head: bytes) -> None:
    check_type(head, ["png"])


# ---------------------------------------------------------------- requests


@pytest.fixture
async def web(store: Engine, tmp_path: Path, root: Path) -> AsyncIterator[WebProcess]:
    images, limits = ImageSettings(root=root), LimitSettings(file_bytes=10_000, files=3)
    async with web_process(store, tmp_path, images=images, limits=limits) as process:
        yield process


def multipart(*fields: tuple[str, Any]) -> list[tuple[str, Any]]:
    """Return fields as httpx sends them in a form: a tuple is a file, a text a field."""
    return [(name, each if isinstance(each, tuple) else (None, each)) for name, each in fields]


async def post(web: WebProcess, name: str, *fields: tuple[str, Any]) -> httpx.Response:
    response = await web.client.post(BY_NAME[name].path, files=multipart(*fields))
    check(BY_NAME[name], response)
    return response


@pytest.mark.anyio
@pytest.mark.parametrize("path", [path for path, _ in REFUSED if path.strip()])
async def test_a_refused_path_is_400(web: WebProcess, path: str) -> None:
    response = await post(web, "caption", ("path", path))
    assert (response.status_code, response.json()["code"]) == (400, "path_refused")
    assert list(web.spool.iterdir()) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("note.txt", 400, "not_an_image"),
        ("empty.png", 400, "empty_image"),
        ("large.png", 413, "file_too_large"),
    ],
)
async def test_a_named_file_has_the_limits_of_an_upload(
    web: WebProcess, path: str, status: int, code: str
) -> None:
    response = await post(web, "caption", ("path", path))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert list(web.spool.iterdir()) == []


@pytest.mark.anyio
async def test_files_and_paths_are_captioned_in_their_order(web: WebProcess) -> None:
    fields = [("path", "album/cat.png"), ("images", ("b.png", PNG + b"b")), ("path", "../x")]
    accepted = await post(web, "async_batch_caption", *fields, ("num_beams", "2"))
    task = f"/async-batch-caption/{accepted.json()['task_id']}"
    results = (await web.client.delete(task)).json()["result"]
    assert [(each["image_path"], each["code"]) for each in results] == [("../x", "path_refused")]
    (file,) = web.spool.iterdir()
    assert sorted([file.read_bytes()[: len(PNG) + 1], file.read_bytes()[len(PNG) + 1 :]]) == [
        PNG,
        PNG + b"b",
    ]


@pytest.mark.anyio
async def test_a_named_image_is_captioned(web: WebProcess) -> None:
    sending = asyncio.create_task(post(web, "caption", ("path", "album/cat.png")))
    ask: Ask = await web.message(Ask)
    assert [web.services.spool.read(image) for image in ask.images] == [PNG]
    web.channel.send(Answer(ask.ticket, Captioned("a cat", ("cat",), "m", 4, 3)))
    body = (await sending).json()
    assert (body["filename"], body["caption"]) == ("album/cat.png", "a cat")
    assert list(web.spool.iterdir()) == []


@pytest.mark.anyio
async def test_named_files_count_as_files(web: WebProcess) -> None:
    two = [("path", "album/cat.png")] * 2
    assert (await post(web, "caption", *two)).json()["code"] == "too_many_files"
    assert (await post(web, "batch_caption", *two, *two)).json()["code"] == "too_many_files"
    empty = await post(web, "caption", ("path", " "))
    assert empty.json()["detail"][0]["loc"] == ["body", "image"]


@pytest.mark.anyio
async def test_named_files_have_the_limit_of_a_body(
    store: Engine, tmp_path: Path, root: Path
) -> None:
    images, limits = ImageSettings(root=root), LimitSettings(body_bytes=30_000)
    async with web_process(store, tmp_path, images=images, limits=limits) as web:
        response = await post(web, "async_batch_caption", *[("path", "large.png")] * 2)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert list(web.spool.iterdir()) == []


SMALL = ClientSettings.model_construct(body_bytes=10_000)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "clients", "status", "code"),
    [
        (replace(HEALTHY, disk_free=10_000), ClientSettings(), 507, "no_space"),
        (replace(HEALTHY, spool_free=10_000), ClientSettings(), 507, "spool_full"),
        (HEALTHY, SMALL, 413, "client_body_too_large"),
    ],
)
async def test_named_files_count_as_much_as_sent_ones(
    store: Engine,
    tmp_path: Path,
    root: Path,
    state: State,
    clients: ClientSettings,
    status: int,
    code: str,
) -> None:
    images = ImageSettings(root=root)
    async with web_process(store, tmp_path, state=state, images=images, clients=clients) as web:
        response = await post(web, "async_batch_caption", ("path", "large.png"))
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert list(web.spool.iterdir()) == []


@pytest.mark.anyio
async def test_without_a_root_paths_are_off(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path) as web:
        response = await post(web, "caption", ("path", "album/cat.png"))
        missing, off = response.json()["detail"]
        assert (missing["type"], missing["loc"]) == ("missing", ["body", "image"])
        assert (off["loc"], "[images] root is not set" in off["msg"]) == (["body", "path"], True)
        # A client of the replaced service may send any field beside its files.
        fields = [("images", ("a.png", PNG)), ("path", "album/cat.png")]
        assert (await post(web, "async_batch_caption", *fields)).status_code == 202

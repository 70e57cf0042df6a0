"""The files of the web pages: small, from here only, and without HTML that is made from text."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from captiond.imagetypes import SUFFIXES
from captiond.jobs import RETRYABLE
from captiond.store.engine import Engine
from captiond.web.page import STATIC, encoded_response
from tests.unit.webprocess import web_process

PAGE = [STATIC / name for name in ("index.html", "page.css", "page.js", "icon.svg")]
PAGE += sorted((STATIC / "page").iterdir())
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
MOST_BYTES, MOST_SOURCE = 48 * 1024, 110 * 1024
URL = re.compile(r"""(?:[a-z][a-z+]*:)?//[\w.-]+[^\s"'`<>)]*""")
# Names that are no addresses: of the namespaces of SVG, and of captiond itself in its own texts.
NAMESPACES = {"http://www.w3.org/2000/svg"}
EXAMPLES = {"http://localhost:8000"}
IMPORT = re.compile(r"""^import\s[^;]*?from\s+["']([^"']+)["']""", re.MULTILINE)
FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b|new Function"
)
COMMENT = re.compile(r"^\s*//.*$|(?<=[;{},)\s])//\s.*$", re.MULTILINE)


def text_of(path: Path) -> str:
    text = path.read_text("utf-8")
    return COMMENT.sub("", text) if path.suffix == ".js" else text


@pytest.mark.anyio
async def test_what_a_browser_loads_for_the_page_is_small(store: Engine, tmp_path: Path) -> None:
    """That is the page and all its files, as they are sent."""
    async with web_process(store, tmp_path) as web:
        sent = 0
        for path in PAGE:
            name = "" if path.name == "index.html" else f"static/{path.relative_to(STATIC)}"
            for encodings, size in (("gzip, deflate, br", 0), ("identity", path.stat().st_size)):
                headers = {"Accept-Encoding": encodings}
                async with web.client.stream("GET", f"/{name}", headers=headers) as response:
                    raw = b"".join([part async for part in response.aiter_raw()])
                    assert response.headers["content-length"] == str(len(raw))
                    assert len(raw) == size or encodings.startswith("gzip")
                sent += len(raw) if encodings.startswith("gzip") else 0
                assert (gzip.decompress(raw) if size == 0 else raw) == path.read_bytes()
                headers["If-None-Match"] = response.headers["etag"]
                again = await web.client.get(f"/{name}", headers=headers)
                assert (again.status_code, again.content) == (304, b"")
    assert sent < MOST_BYTES
    assert sum(path.stat().st_size for path in PAGE) < MOST_SOURCE


@pytest.mark.parametrize(
    ("header", "compresses"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip ; q=1", True), ("", False),
     ("gzip;q=0", False), ("br, gzip;q=0.000", False), ("deflate", False), ("xgzip", False)],
)  # fmt: skip
def test_a_client_says_whether_it_takes_compressed_texts(header: str, compresses: bool) -> None:
    response = encoded_response(b"text" * 99, "text/css", Headers({"Accept-Encoding": header}))
    assert ("content-encoding" in response.headers) is compresses
    assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("known", ["W/{}", '"x", {}', "*"])
def test_a_client_that_has_the_text_does_not_get_it_again(known: str) -> None:
    """A proxy that compresses makes entity tags weak (RFC 9110, 8.8.3.3)."""
    etag = encoded_response(b"text", "text/css", Headers()).headers["etag"]
    again = encoded_response(b"text", "text/css", Headers({"If-None-Match": known.format(etag)}))
    assert again.status_code == 304


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_address_elsewhere(path: Path) -> None:
    assert set(URL.findall(text_of(path))) <= NAMESPACES | EXAMPLES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_html_is_made_from_text(path: Path) -> None:
    assert FROM_TEXT.findall(text_of(path)) == []


def reached(path: Path) -> Iterator[Path]:
    """Yield the files that a module imports, directly or not."""
    for name in IMPORT.findall(text_of(path)):
        assert name.startswith("./"), f"{path.name} imports {name}"
        yield (imported := path.parent / name)
        yield from reached(imported)


def test_every_module_is_used() -> None:
    used = {STATIC / "page.js", STATIC / "docs.js"}
    used |= {path.resolve() for start in list(used) for path in reached(start)}
    assert used == {path for path in FILES if path.suffix == ".js"}


def script(folder: Path) -> str:
    return "\n".join(text_of(path) for path in PAGE if path.suffix == ".js")


def test_every_element_and_icon_that_a_module_names_is_in_the_page() -> None:
    page, modules = (STATIC / "index.html").read_text("utf-8"), script(STATIC)
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert set(ids.values()) == {1}
    named = set(re.findall(r'\bat\("([^"]+)"\)', modules))
    assert len(named) > 30
    assert named <= set(ids)
    icons = set(re.findall(r'\bicon(?:Button)?\("([a-z]+)"', modules))
    icons |= set(re.findall(r'href="#icon-([a-z]+)"', page))
    assert {f"icon-{name}" for name in icons} == {name for name in ids if name.startswith("icon-")}


def test_the_page_knows_which_images_can_be_retried() -> None:
    found = re.search(r"RETRYABLE = \[([^\]]*)\]", script(STATIC))
    assert found is not None
    assert set(re.findall(r'"(\w+)"', found[1])) == RETRYABLE


def test_the_page_knows_the_names_of_all_image_files() -> None:
    """It leaves other files of a folder out: browsers report no type for raw files and JPEG XL."""
    script = (STATIC / "page" / "picture_files.js").read_text("utf-8")
    listed = script.partition("const SUFFIXES = [")[2].partition("]")[0]
    assert sorted(re.findall(r'"(\.\w+)"', listed)) == sorted(SUFFIXES)

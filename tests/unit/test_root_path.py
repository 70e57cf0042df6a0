"""The path under which a proxy serves captiond: `[server] root_path`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from captiond.settings.server_settings import ServerSettings
from captiond.store.engine import Engine
from captiond.web.page import STATIC
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
PREFIX = "/photos/captions"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, server=ServerSettings(root_path=PREFIX)) as process:
        yield process


async def accepted(web: WebProcess, prefix: str) -> httpx.Response:
    files = {"images": ("a.png", PNG)}
    response = await web.client.post(f"{prefix}/async-batch-caption", files=files)
    assert response.status_code == 202
    return response


@pytest.mark.parametrize("sent", [PREFIX, ""], ids=["passed-on", "removed"])
async def test_a_proxy_may_pass_the_prefix_on_or_remove_it(web: WebProcess, sent: str) -> None:
    response = await accepted(web, sent)
    location = response.headers["location"]
    assert location == f"{PREFIX}/async-batch-caption/status/{response.json()['task_id']}"
    # A client without the proxy follows the same address.
    assert (await web.client.get(location)).json()["task_id"] == response.json()["task_id"]
    redirect = await web.client.get(f"{sent}/livez/")
    assert (redirect.status_code, redirect.headers["location"]) == (307, f"{PREFIX}/livez")
    for path in ("/", "/docs", "/static/page.js", "/livez"):
        assert (await web.client.get(sent + path)).status_code == 200
    for path in ("/nowhere", "/static/nowhere"):
        assert (await web.client.get(sent + path)).status_code == 404


async def test_the_prefix_alone_is_redirected_to_the_page(web: WebProcess) -> None:
    response = await web.client.get(PREFIX)
    assert (response.status_code, response.headers["location"]) == (307, f"{PREFIX}/")


async def test_a_path_that_only_begins_like_the_prefix_is_another_one(web: WebProcess) -> None:
    assert (await web.client.get(f"{PREFIX}x/livez")).status_code == 404
    assert (await web.client.get(PREFIX * 2 + "/livez")).status_code == 404


async def test_a_dialect_keeps_its_form_of_errors_under_a_prefix(web: WebProcess) -> None:
    for sent in (PREFIX, ""):
        response = await web.client.post(f"{sent}/v1/chat/completions", content=b"{")
        assert response.json()["error"]["code"] == "malformed_body"


async def test_an_own_path_counts_before_the_prefix(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, server=ServerSettings(root_path="/api")) as web:
        tags = await web.client.get("/api/tags")  # the proxy has removed /api from /api/api/tags
        assert "models" in tags.json()
        assert (await web.client.get("/api/api/tags")).json() == tags.json()
        assert (await web.client.get("/api/livez")).json() == {"status": "alive"}


async def test_the_document_names_the_prefix_as_its_server(
    web: WebProcess, store: Engine, tmp_path: Path
) -> None:
    document = (await web.client.get("/openapi.json")).json()
    assert [server["url"] for server in document["servers"]] == [PREFIX]
    async with web_process(store, tmp_path) as plain:
        document = (await plain.client.get("/openapi.json")).json()
    assert [server["url"] for server in document["servers"]] == ["/"]


def own_urls(text: str) -> Iterator[str]:
    return (part.partition('"')[0] for part in text.split('="./')[1:])


@pytest.mark.parametrize("name", ["index.html", "docs.html"])
async def test_the_addresses_of_a_page_work_without_a_slash_at_the_end(
    web: WebProcess, store: Engine, tmp_path: Path, name: str
) -> None:
    path = "/docs" if name == "docs.html" else "/"
    page = (await web.client.get(path)).text
    urls = [f"{PREFIX}/{url}" for url in own_urls((STATIC / name).read_text("utf-8"))]
    assert len(urls) > 3
    for url in urls:
        assert f'="{url}"' in page
        assert (await web.client.get(url)).status_code == 200
    async with web_process(store, tmp_path) as plain:
        assert (await plain.client.get(path)).text == (STATIC / name).read_text("utf-8")


async def test_a_browser_asks_for_changed_files(web: WebProcess) -> None:
    for path in ("/", "/docs", "/static/page.js"):
        assert (await web.client.get(path)).headers["cache-control"] == "no-cache"
    etag = (await web.client.get("/static/page.js")).headers["etag"]
    again = await web.client.get("/static/page.js", headers={"If-None-Match": etag})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


@pytest.mark.parametrize(
    ("given", "path"),
    [("", ""), ("/", ""), ("/captions/", "/captions"), ("/a/b-c_d.e~1", "/a/b-c_d.e~1")],
)
def test_a_root_path_is_kept_without_a_slash_at_its_end(given: str, path: str) -> None:
    assert ServerSettings(root_path=given).root_path == path


@pytest.mark.parametrize(
    "given",
    ["captions", "//evil.example", "/a//b", "/../a", "/a/.", "/a b", "/%41", "/a?b", "/ä", "/a#b",
     "http://host/a", "/a\\b"],
)  # fmt: skip
def test_a_root_path_must_be_a_plain_path(given: str) -> None:
    with pytest.raises(ValidationError, match="must be a path such as /captions"):
        ServerSettings(root_path=given)

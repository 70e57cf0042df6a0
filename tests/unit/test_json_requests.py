"""Captioning calls with a JSON body."""

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from captiond.jobs import Captioned, Generation, Options, Outcome
from captiond.messages import Answer, Ask
from captiond.settings.config import ImageSettings, LimitSettings, Settings, WebhookSettings
from captiond.store.engine import Engine
from captiond.tags import Kind, TagOptions
from tests.answers import BY_NAME, check
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
IMAGE = base64.b64encode(PNG).decode()
BODY = {"image": IMAGE}
JSON = {"Content-Type": "application/json"}
DATA_URL = f"data:image/png;base64,{IMAGE}"
CAPTION = Captioned("a cat", (), "m", 4, 3)
HARD_LIMIT = replace(Settings().captions.search_rules, finish_tokens=0)
LARGE = base64.b64encode(PNG + bytes(3000)).decode()


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    limits = LimitSettings(file_bytes=2000, files=3, request_seconds=60)
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat.png").write_bytes(PNG)
    images = ImageSettings(root=root)
    async with web_process(store, tmp_path, limits=limits, images=images) as process:
        yield process
        assert await asyncio.to_thread(lambda: [*process.spool.iterdir()]) == []


async def asked(
    web: WebProcess, path: str, body: object, outcomes: Sequence[Outcome]
) -> tuple[Ask, httpx.Response]:
    """Post a JSON body, and answer its images. Return what was asked for, and the response."""
    sending = asyncio.create_task(web.client.post(path, json=body))
    ask: Ask = await web.message(Ask)
    for number, outcome in enumerate(outcomes):
        web.channel.send(Answer(ask.ticket + number, outcome))
    return ask, await sending


# ---------------------------------------------------------------- images and options


@pytest.mark.parametrize("image", [IMAGE, DATA_URL, IMAGE.rstrip("="), f"\n{IMAGE}"])
@pytest.mark.parametrize("filename", [None, "cat.png"])
async def test_one_image(web: WebProcess, image: str, filename: str | None) -> None:
    body = {"image": image, "filename": filename, "num_beams": 3, "path": None}
    ask, response = await asked(web, "/caption", body, [CAPTION])
    assert (response.status_code, response.json()["filename"]) == (200, filename or "image")
    assert response.json()["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert ask.images[0].sha256 == hashlib.sha256(PNG).hexdigest()
    assert ask.options == Options(replace(Settings().default_generation, num_beams=3))
    check(BY_NAME["caption"], response)


async def test_all_options_have_their_types(web: WebProcess) -> None:
    body = {
        "prompt": "a photo of",
        "num_beams": 4,
        "max_new_tokens": 9,
        "min_new_tokens": 2,
        "repetition_penalty": 1.5,
        "num_captions": 2,
        "no_cache": True,
        "language": "en",
        "tag_kinds": ["noun"],
        "tag_deny": ["cat*", "a,b"],
        "tag_min_length": None,
        "image": IMAGE,
    }
    ask, _ = await asked(web, "/caption", body, [CAPTION])
    assert ask.options == Options(
        Generation("a photo of", 4, 9, 2, 1.5, 2, 6, "", HARD_LIMIT),
        no_cache=True,
        language="en",
        tags=TagOptions(kinds=(Kind.NOUN,), deny=("cat*", "a,b")),
    )


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"num_beams": "4"}, ["num_beams"]),
        ({"num_beams": True}, ["num_beams"]),
        ({"num_beams": 2.5}, ["num_beams"]),
        ({"num_beams": 9}, ["num_beams"]),
        ({"no_cache": 1}, ["no_cache"]),
        ({"prompt": 5}, ["prompt"]),
        ({"tag_kinds": "noun"}, ["tag_kinds"]),
        ({"tag_deny": "noun"}, ["tag_deny"]),
        ({"tag_kinds": ["verb"]}, ["tag_kinds"]),
        ({"tag_deny": [{"a": [1]}]}, ["tag_deny"]),
        ({"callback_url": "http://localhost"}, ["callback_url"]),
        ({"num_beam": 3, "no_cash": {}}, ["num_beam", "no_cash"]),
        ({"whatever": 1}, ["whatever"]),
        ({"filename": 5}, ["filename"]),
        ({"path": "cat.png"}, ["path"]),
    ],
    ids=str,
)
async def test_a_wrong_option_is_named(
    web: WebProcess, options: dict[str, Any], places: list[str]
) -> None:
    response = await web.client.post("/caption", json={"image": IMAGE, **options})
    assert response.status_code == 422
    assert [entry["loc"][:2] for entry in response.json()["detail"]] == [
        ["body", place] for place in places
    ]
    check(BY_NAME["caption"], response)


async def test_an_unknown_key_gets_the_nearest_known_one(web: WebProcess) -> None:
    for key, near in (
        ("imag", "image"),
        ("file_name", "filename"),
        ("maxtokens", "max_new_tokens"),
    ):
        response = await web.client.post("/caption", json={"image": IMAGE, key: "x"})
        (entry,) = response.json()["detail"]
        assert f"did you mean {near}?" in entry["msg"]
    response = await web.client.post(
        "/batch-caption", json={"images": [{"image": IMAGE, "name": "a"}]}
    )
    (entry,) = response.json()["detail"]
    assert entry["loc"] == ["body", "images", 0, "name"]


async def test_several_images_in_all_shapes(web: WebProcess) -> None:
    body = {"images": [DATA_URL, {"filename": "b.png", "image": IMAGE}, {"path": "cat.png"}]}
    ask, response = await asked(web, "/batch-caption", body, [CAPTION] * 3)
    assert len({image.sha256 for image in ask.images}) == 1
    names = [result["image_path"] for result in response.json()["results"]]
    assert names == ["images[0]", "b.png", "cat.png"]
    check(BY_NAME["batch_caption"], response)


async def test_a_bad_image_spoils_no_other(web: WebProcess) -> None:
    bad = [
        ("cat.png", "not_base64", "images[0]: the text is not base64 at character 3"),
        (
            {"image": "http://a/b", "filename": "u"},
            "url_refused",
            "images[0].image: URLs are never",
        ),
        ("data:text/plain;base64,QQ==", "not_an_image", "text/plain"),
        ("QUJD", "not_an_image", ""),
        ("", "empty_image", ""),
        (LARGE, "file_too_large", "over 1.953 KiB (2000 bytes)"),
        ({"path": "../x"}, "path_refused", ""),
    ]
    for image, code, reason in bad:
        body = {"images": [image, IMAGE]}
        _, response = await asked(web, "/batch-caption", body, [CAPTION])
        refused, captioned = response.json()["results"]
        assert (refused["code"], captioned["caption"]) == (code, "a cat")
        assert reason in refused["error"]
        check(BY_NAME["batch_caption"], response)
        single = image if isinstance(image, dict) else {"image": image}
        response = await web.client.post("/caption", json=single)
        assert (response.status_code, response.json()["code"]) == (
            413 if code == "file_too_large" else 400,
            code,
        )
        check(BY_NAME["caption"], response)


@pytest.mark.parametrize(
    ("value", "loc"),
    [
        (None, []),
        (5, []),
        ([IMAGE], []),
        (True, []),
        ({"image": 7}, ["image"]),
        ({"filename": "a"}, ["image"]),
        ({"image": IMAGE, "filename": 1}, ["filename"]),
        ({"image": IMAGE, "path": "a"}, ["path"]),
        ({"path": 1}, ["path"]),
    ],
    ids=str,
)
async def test_an_image_of_another_type_is_named(
    web: WebProcess, value: object, loc: list[str]
) -> None:
    response = await web.client.post("/batch-caption", json={"images": [IMAGE, value]})
    assert response.status_code == 422
    (entry,) = response.json()["detail"]
    assert entry["loc"] == ["body", "images", 1, *loc]


async def test_too_many_images(web: WebProcess) -> None:
    for image in (IMAGE, {"path": "cat.png"}):
        response = await web.client.post("/batch-caption", json={"images": [image] * 4})
        assert (response.status_code, response.json()["code"]) == (422, "too_many_files")


async def test_the_decoded_bytes_count_and_not_their_base64(web: WebProcess) -> None:
    largest = base64.b64encode(PNG + bytes(2000 - len(PNG))).decode()
    lines = "\r\n".join(largest[at : at + 76] for at in range(0, len(largest), 76))
    for text in (largest, lines):
        _, response = await asked(web, "/caption", {"image": text}, [CAPTION])
        assert response.status_code == 200


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=UTF-8",
        "Application/JSON",
        "application/vnd.api+json",
    ],
)
async def test_media_types_of_json(web: WebProcess, kind: str) -> None:
    sending = asyncio.create_task(
        web.client.post(
            "/caption",
            content=b"\xef\xbb\xbf" + json.dumps({"image": IMAGE}).encode(),
            headers={"Content-Type": kind},
        )
    )
    await web.answer(CAPTION)
    assert (await sending).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "hint"),
    [
        ("", b"{}", "the request has no Content-Type"),
        ("image/png", PNG, "the body is the image itself"),
        ("application/x-www-form-urlencoded", b'{"image": ""}', "x-www-form-urlencoded"),
        ("application/octet-stream", PNG, "octet-stream"),
        ("application/json", b"{}", "the JSON body has no 'image', but no key"),
        ("application/json", b'{"picture": "QUJD"}', "but 'picture'"),
        (
            "multipart/form-data; boundary=e",
            b'--e\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--e--\r\n',
            "the part 'image' has no file name",
        ),
        (
            "multipart/form-data; boundary=e",
            b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            b"x\r\n--e--\r\n",
            "the file must be in 'image', but there is one in 'file'",
        ),
        (
            "multipart/form-data; boundary=e",
            b'--e\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
            + PNG * 1000
            + b"\r\n--e--\r\n",
            "the part 'image' has no file name",
        ),
        ("multipart/form-data; boundary=e", b"--e--\r\n", "the form has no file"),
        ("multipart/form-data; boundary=e", b"", "the form has no file"),
        ("application/json", b'{"image": null}', "there is no image in 'image'"),
    ],
)
async def test_a_request_that_cannot_be_meant_gets_a_hint(
    web: WebProcess, kind: str, body: bytes, hint: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = await web.client.post("/caption", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "image"]
    assert hint in response.json()["hint"]
    check(BY_NAME["caption"], response)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b""),
        ("application/json", b"--e--"),
        ("application/json", b'["image"]'),
        ("application/json; charset=utf-16", json.dumps({"image": IMAGE}).encode("utf-16")),
        ("application/json; charset=latin-1", b'{"image": ""}'),
        ("multipart/form-data", b'{"image": ""}'),
        ("multipart/form-data; boundary=e", b'{"image": ""}'),
    ],
)
async def test_a_body_that_cannot_be_parsed(web: WebProcess, kind: str, body: bytes) -> None:
    response = await web.client.post("/caption", content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")
    check(BY_NAME["caption"], response)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", gzip.compress(b'{"image": ""}'), 400),
        ("multipart/form-data; boundary=e", gzip.compress(b"--e--\r\n"), 400),
        ("multipart/form-data; boundary=e", b"--e--\r\n", 422),
    ],
    ids=["JSON", "form", "empty form"],
)
async def test_a_compressed_body_gets_a_hint(
    web: WebProcess, kind: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    response = await web.client.post("/caption", content=body, headers=headers)
    assert response.status_code == status
    assert "without Content-Encoding: gzip" in response.text
    check(BY_NAME["caption"], response)


async def test_a_body_that_is_only_said_to_be_compressed(web: WebProcess) -> None:
    headers = {"Content-Encoding": "gzip"}
    sending = asyncio.create_task(web.client.post("/caption", json=BODY, headers=headers))
    await web.answer(CAPTION)
    assert (await sending).status_code == 200


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-be", "utf-16-le"])
async def test_json_in_another_charset_is_named(web: WebProcess, charset: str) -> None:
    response = await web.client.post(
        "/caption", content=json.dumps(BODY).encode(charset), headers=JSON
    )
    assert response.json()["detail"] == "malformed JSON body: it is not in UTF-8"


# ---------------------------------------------------------------- tasks


async def test_a_task(store: Engine, tmp_path: Path) -> None:
    webhooks = WebhookSettings(allow=("localhost",))
    async with web_process(store, tmp_path, webhooks=webhooks) as web:
        body = {"images": [IMAGE, "?"], "callback_url": "http://localhost/hook", "num_beams": 2}
        headers = {"Idempotency-Key": "one"}
        accepted = await web.client.post("/async-batch-caption", json=body, headers=headers)
        assert accepted.status_code == 202
        check(BY_NAME["async_batch_caption"], accepted)
        again = await web.client.post(
            "/async-batch-caption", json=dict(reversed(body.items())), headers=headers
        )
        assert again.json()["task_id"] == accepted.json()["task_id"]
        other = await web.client.post(
            "/async-batch-caption", json={**body, "num_beams": 3}, headers=headers
        )
        assert other.json()["code"] == "idempotency_key_reused"
        for url in (5, ["http://localhost"], "http://elsewhere"):
            response = await web.client.post(
                "/async-batch-caption", json={**body, "callback_url": url}
            )
            assert response.json()["detail"][0]["loc"] == ["body", "callback_url"]

"""The core that captiond's own calls share with dialects: a toy dialect that is made from it."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import captiond.web.app
from captiond.errors import CaptiondError, QueueFull
from captiond.jobs import Captioned, Options, Refused
from captiond.keys import Scope
from captiond.messages import Answer, Ask, State
from captiond.store.engine import Engine
from captiond.web.interactive import interactive_call
from captiond.web.operation import ADMISSION, UPLOAD, Operation, ResponseSpec
from captiond.web.operations import OPERATIONS
from captiond.web.uploading.forms import FormSpec
from captiond.web.uploading.jsonbody import ImageReference
from captiond.web.uploading.jsonscanner import EACH
from tests.unit.webprocess import PNG, web_process

pytestmark = pytest.mark.anyio
IMAGE = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{IMAGE}"
CAPTION = Captioned("a cat", (), "m", 4, 3)
TOY = FormSpec("images", single=False, places=(("rows", EACH, "picture"), ("picture",)))


async def toy(request: Request) -> Response:
    """Answer with the caption in place of each picture; a dialect of this test."""
    try:
        async with interactive_call(request, TOY) as call:
            answers = await call.answers(Options())
    except CaptiondError as error:
        return JSONResponse({"oops": error.code}, status_code=error.status)
    texts = [
        each.outcome.code if isinstance(each.outcome, Refused) else each.outcome.caption
        for each in answers
    ]

    def replaced(value: Any) -> Any:
        match value:
            case ImageReference(position=position, label=label):
                return [label, texts[position]]
            case dict():
                return {key: replaced(each) for key, each in value.items()}
            case list():
                return [replaced(each) for each in value]
            case _:
                return value

    return JSONResponse(replaced(call.document))


@pytest.fixture
def dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the toy dialect to the table from which the application is made."""
    operation = Operation(
        "POST",
        "/toy",
        "A toy.",
        toy,
        (ResponseSpec(200, "The document.", dict[str, Any]),),
        errors=(*ADMISSION, *UPLOAD),
        form=TOY,
        scope=Scope.CAPTION,
    )
    monkeypatch.setattr(captiond.web.app, "OPERATIONS", (*OPERATIONS, operation))


@pytest.mark.usefixtures("dialect")
async def test_a_dialect_has_its_own_shape_of_documents(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path) as web:
        document = {
            "rows": [{"picture": DATA_URL}, {"picture": {"a": 1}}, {"picture": "x!"}],
            "picture": IMAGE,
            "text": "x" * 500_000,
        }
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d sends it
        sending = asyncio.create_task(web.client.post("/toy", content=body, headers=headers))
        ask: Ask = await web.message(Ask)
        for number in range(2):
            web.channel.send(Answer(ask.ticket + number, CAPTION))
        response = await sending
    assert response.json() == document | {
        "rows": [
            {"picture": ["rows[0].picture", "a cat"]},
            {"picture": {"a": 1}},
            {"picture": ["rows[2].picture", "not_base64"]},
        ],
        "picture": ["picture", "a cat"],
    }


@pytest.mark.usefixtures("dialect")
async def test_a_dialect_shows_errors_in_its_own_way(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path) as web:
        broken = await web.client.post("/toy", content=b"{")
        assert (broken.status_code, broken.json()) == (400, {"oops": "malformed_body"})
        sending = asyncio.create_task(web.client.post("/toy", json={"picture": IMAGE}))
        await web.answer(Refused.of(QueueFull("full")))
        assert (await sending).json() == {"oops": "queue_full"}
        empty = await web.client.post("/toy", json={"rows": []})
        assert (empty.status_code, empty.json()) == (200, {"rows": []})
        await web.set_state(State(draining=True))
        draining = await web.client.post("/toy", json={"picture": IMAGE})
        assert (draining.status_code, draining.json()) == (503, {"oops": "draining"})
        assert await asyncio.to_thread(lambda: [*web.spool.iterdir()]) == []

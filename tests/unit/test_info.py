"""What the service says of itself: enough for a client to adapt, and nothing of the machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from captiond.messages import ModelInfo, State
from captiond.request_options import RequestOptions
from captiond.settings.config import ImageSettings, LimitSettings
from captiond.store.engine import Engine
from captiond.web.dialects.names import shown_name
from tests.answers import BY_NAME, check
from tests.unit.filling import add_task
from tests.unit.webprocess import HEALTHY, web_process

pytestmark = pytest.mark.anyio


async def test_it_has_the_model_the_limits_and_the_queue(store: Engine, tmp_path: Path) -> None:
    model = ModelInfo(str(tmp_path / "my-model"), "m", "f", "cpu", "fp32", 8, ("prompt",))
    images = ImageSettings(root=tmp_path, types=("png", "jpeg"))
    limits = LimitSettings(files=7)
    async with web_process(store, tmp_path, images=images, limits=limits) as web:
        await add_task(store, "t", 5)
        await web.set_state(replace(HEALTHY, model=model, bulk_rate=2.5))
        response = await web.client.get("/info")
        check(BY_NAME["info"], response)
        assert str(tmp_path) not in response.text
    body = response.json()
    assert body["model"]["name"] == "my-model"
    assert body["model"]["fallback"]
    assert body["queue"] == {"images": 5, "images_per_second": 2.5}
    assert body["image_types"] == ["png", "jpeg"]
    assert body["limits"]["files"] == 7
    assert body["options"] == [name for name in RequestOptions.model_fields if name != "prompt"]
    assert body["tags"]["languages"] == ["en"]


async def test_it_answers_before_a_model_is_loaded(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, state=State(reasons=("it is loaded",))) as web:
        response = await web.client.get("/info")
        check(BY_NAME["info"], response)
    assert response.json()["model"] is None
    assert response.json()["status"] == "starting"
    assert "images_per_second" not in response.json()["queue"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Salesforce/blip-image-captioning-base", "Salesforce/blip-image-captioning-base"),
        ("captiond/scenes", "captiond/scenes"),
        ("/srv/models/mine/", "mine"),
        ("./models/mine", "mine"),
        ("~/mine", "mine"),
    ],
)
def test_a_folder_is_named_by_its_last_part(name: str, shown: str) -> None:
    assert shown_name(name) == shown

"""Options of a request for how captions are generated; equal work is done once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import png
from tests.service import Service, upload

BOAT = "boat_and_sun.png"
GREEDY = "a red boat to the left of a yellow sun"


def caption(service: Service, **fields: str) -> dict[str, Any]:
    data = {"no_cache": "true", **fields}
    response = service.client.post("/caption", files={"image": upload(BOAT)}, data=data)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_score_stands_beside_every_caption(service: Service) -> None:
    body = caption(service)
    assert body["caption"] == GREEDY
    assert -1 < body["score"] <= 0
    assert "captions" not in body


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_new_tokens": "3"}, "a red boat"),
        ({"prompt": "a blue"}, "a blue boat to the left of"),
        ({"min_new_tokens": "15"}, GREEDY + " "),
        ({"repetition_penalty": "5"}, "a red boat"),
        ({"num_beams": "4"}, "a red boat"),
    ],
)
def test_a_request_chooses_how_captions_are_generated(
    service: Service, fields: dict[str, str], expected: str
) -> None:
    assert caption(service, **fields)["caption"].startswith(expected)


def test_what_has_no_effect_is_noted(service: Service) -> None:
    body = caption(service, prompt="a fotograf", context="place: Lisbon")
    assert body["notes"] == [
        "prompt: the model does not know 'fotograf'",
        "context: the model cannot use it",
    ]
    assert "notes" not in caption(service)
    assert "context" not in service.client.get("/info").json()["options"]


def test_what_a_limit_has_cut_ends_after_a_phrase(service: Service) -> None:
    body = caption(service, max_new_tokens="7")
    assert body["caption"] == "a red boat"
    assert body["raw_caption"] == "a red boat to the left of"
    assert [detail["tag"] for detail in body["tag_details"]] == ["red boat", "boat"]
    assert body["alt_text"] == "A red boat."
    assert caption(service)["raw_caption"] == GREEDY


def test_several_captions_best_first(service: Service) -> None:
    body = caption(service, num_captions="3")
    texts = [entry["caption"] for entry in body["captions"]]
    scores = [entry["score"] for entry in body["captions"]]
    assert len(set(texts)) == 3
    assert texts[0] == body["caption"]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == body["score"]


@pytest.mark.parametrize("path", ["/caption", "/batch-caption", "/async-batch-caption"])
@pytest.mark.parametrize(
    ("fields", "wrong", "kind"),
    [
        ({"num_beams": "9"}, "num_beams", "less_than_equal"),
        ({"max_new_tokens": "0"}, "max_new_tokens", "greater_than_equal"),
        ({"prompt": "x" * 201}, "prompt", "string_too_long"),
        ({"repetition_penalty": "nan"}, "repetition_penalty", "less_than_equal"),
        ({"repetition_penalty": "1e-300"}, "repetition_penalty", "greater_than_equal"),
        ({"num_captions": "6"}, "num_captions", "less_than_equal"),
        ({"num_captions": "3", "num_beams": "2"}, "num_captions", "num_captions"),
        ({"min_new_tokens": "21"}, "min_new_tokens", "min_new_tokens"),
        ({"no_cache": "perhaps"}, "no_cache", "bool_parsing"),
        ({"num_beam": "4"}, "num_beam", "extra_forbidden"),
    ],
)
def test_a_wrong_field_is_refused(
    service: Service, path: str, fields: dict[str, str], wrong: str, kind: str
) -> None:
    name = "image" if path == "/caption" else "images"
    response = service.client.post(path, files={name: upload(BOAT)}, data=fields)
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["body", wrong], kind)


def test_fields_that_are_no_options_are_ignored_as_they_always_were(service: Service) -> None:
    assert caption(service, user="7", model="any", filename="x.png")["caption"] == GREEDY


def test_a_task_keeps_its_options(service: Service) -> None:
    files = [("images", ("a.png", png(7001))), ("images", ("b.png", png(7002)))]
    fields = {"num_captions": "2", "max_new_tokens": "4", "prompt": "a green"}
    accepted = service.client.post("/async-batch-caption", files=files, data=fields).json()
    results = service.finished(accepted["task_id"])["result"]
    assert [result["caption"][:7] for result in results] == ["a green", "a green"]
    assert [len(result["captions"]) for result in results] == [2, 2]


def test_the_cache_distinguishes_generations_and_knows_explicit_defaults(service: Service) -> None:
    image = ("a.png", png(7003))

    def ask(**fields: str) -> bool:
        response = service.client.post("/caption", files={"image": image}, data=fields)
        return bool(response.json()["cached"])

    for fields in ({}, {"num_beams": "2"}):
        with service.caching():
            assert not ask(**fields)
    assert not ask(no_cache="1")
    assert [ask(), ask(num_beams="1", max_new_tokens="20"), ask(num_beams="2")] == [True] * 3


def test_equal_images_at_the_same_time_are_captioned_once(service: Service) -> None:
    before = sum(entry["images"] for entry in service.logged("batch"))
    image = ("a.png", png(7004))

    def ask(_: int) -> tuple[str, bool]:
        body = service.client.post("/caption", files={"image": image}).json()
        return body["caption"], body["cached"]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert len({text for text, _ in answers}) == 1
    assert sum(not cached for _, cached in answers) == 1
    assert sum(entry["images"] for entry in service.logged("batch")) == before + 1


def test_a_bad_image_that_comes_twice_at_once_is_refused_twice(service: Service) -> None:
    whole = png(7005)
    broken = whole[: len(whole) // 2]
    files = [("images", (f"{n}.png", broken)) for n in range(4)]
    results = service.client.post("/batch-caption", files=files).json()["results"]
    assert [result["code"] for result in results] == ["corrupt_image"] * 4

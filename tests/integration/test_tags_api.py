"""Tags over HTTP: details, filters of a request, languages, and the options of a task."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service, query, running, running_without_model, upload, wait_for

DATA = Path(__file__).parents[1] / "data"
BOAT = "boat_and_sun.png"  # a red boat to the left of a yellow sun
KEYS = ["tag", "lemma", "category", "kind", "start", "end", "confidence"]


def caption(service: Service, **fields: str) -> dict[str, Any]:
    response = service.client.post("/caption", files={"image": upload(BOAT)}, data=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_tag_details_come_after_the_kept_fields(service: Service) -> None:
    body = caption(service)
    assert body["caption"] == "a red boat to the left of a yellow sun"
    assert body["tags"] == ["boat", "red boat", "sun", "yellow sun"]
    assert all(list(detail) == KEYS for detail in body["tag_details"])
    confidences = [detail.pop("confidence") for detail in body["tag_details"]]
    assert all(0.9 < confidence <= 1 for confidence in confidences)
    assert body["tag_details"][0] == {
        "tag": "red boat",
        "lemma": "boat",
        "category": "vehicle",
        "kind": "phrase",
        "start": 2,
        "end": 10,
    }
    assert sorted(detail["tag"] for detail in body["tag_details"]) == body["tags"]


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({}, ["red vessel", "sun", "vessel"]),
        ({"language": ""}, ["red vessel", "sun", "vessel"]),
        ({"tag_categories": "vehicle"}, ["red vessel", "vessel"]),
        ({"tag_categories": "nature, vehicle", "tag_kinds": "noun"}, ["sun", "vessel"]),
        ({"tag_kinds": "adjective"}, ["red"]),  # yellow is denied by the settings
        ({"tag_allow": "*sun"}, ["sun"]),
        ({"tag_deny": "VESSEL"}, ["sun"]),
        ({"tag_min_length": "5"}, ["red vessel", "vessel"]),
        ({"tag_max_number": "1"}, ["red vessel"]),
        ({"tag_max_number": "0"}, ["red vessel", "sun", "vessel"]),
        ({"language": "de"}, ["boot", "sonne"]),
        ({"language": "en", "unknown": "x"}, ["red vessel", "sun", "vessel"]),
    ],
)
def test_a_request_chooses_and_one_cache_entry_serves_all(
    configured: Service, fields: dict[str, str], tags: list[str]
) -> None:
    language = fields.get("language", "")
    wait_for(lambda: caption(configured, language=language)["cached"], "the caption in the cache")
    body = caption(configured, **fields)
    assert body["tags"] == tags
    assert sorted(detail["tag"] for detail in body["tag_details"]) == tags
    assert body["cached"]


@pytest.mark.parametrize("path", ["/caption", "/batch-caption", "/async-batch-caption"])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"language": "fr"},
            {
                "type": "language",
                "loc": ["body", "language"],
                "msg": "No tag pipeline for this language; there is one for: en, de",
                "input": "fr",
            },
        ),
        (
            {"tag_categories": "animal,fod"},
            {"type": "enum", "loc": ["body", "tag_categories", 1], "input": "fod"},
        ),
        (
            {"tag_kinds": "verb"},
            {
                "type": "enum",
                "loc": ["body", "tag_kinds", 0],
                "msg": "Input should be 'phrase', 'noun', 'adjective' or 'vocabulary'",
                "input": "verb",
            },
        ),
        (
            {"tag_max_number": "many"},
            {
                "type": "int_parsing",
                "loc": ["body", "tag_max_number"],
                "msg": "Input should be a valid integer, unable to parse string as an integer",
                "input": "many",
            },
        ),
        (
            {"tag_min_length": "0"},
            {
                "type": "greater_than_equal",
                "loc": ["body", "tag_min_length"],
                "msg": "Input should be greater than or equal to 1",
                "input": "0",
            },
        ),
        (
            {"tag_deny": "x" * 101},
            {"type": "string_too_long", "loc": ["body", "tag_deny", 0], "input": "x" * 101},
        ),
    ],
)
def test_a_wrong_field_is_422_and_leaves_nothing(
    configured: Service, path: str, fields: dict[str, str], problem: dict[str, Any]
) -> None:
    field = "image" if path == "/caption" else "images"
    response = configured.client.post(path, files=[(field, upload(BOAT))], data=fields)
    body = response.json()
    assert response.status_code == 422
    assert body["code"] == "invalid_request"
    (told,) = body["detail"]
    assert told | problem == told
    assert set(told) == {"type", "loc", "msg", "input"}
    spool = configured.data / "spool"
    wait_for(lambda: not list(spool.iterdir()), "an empty spool")


def test_a_batch_and_a_task_take_the_fields_too(configured: Service) -> None:
    files = [("images", upload(BOAT)), ("images", upload("red_circle.png"))]
    fields = {"tag_kinds": "noun", "tag_max_number": "1"}
    batch = configured.client.post("/batch-caption", files=files, data=fields).json()
    accepted = configured.client.post("/async-batch-caption", files=files, data=fields).json()
    task = configured.finished(accepted["task_id"])
    for results in (batch["results"], task["result"]):
        assert [result["tags"] for result in results] == [["vessel"], ["circle"]]
        assert [[detail["kind"] for detail in result["tag_details"]] for result in results] == [
            ["noun"],
            ["noun"],
        ]


def test_the_options_of_a_task_survive_the_death_of_the_service(data: Path) -> None:
    """A task keeps its tag filter when the service is killed and started again."""
    with running_without_model(data) as service:
        fields = {"tag_categories": "vehicle", "tag_kinds": "phrase"}
        files = [("images", upload(BOAT))]
        accepted = service.client.post("/async-batch-caption", files=files, data=fields).json()
        service.kill()
    ((options,),) = query(data, "SELECT options FROM tasks")
    assert json.loads(options)["tags"]["categories"] == ["vehicle"]
    with running(data) as again:
        task = again.finished(accepted["task_id"])
    assert [result["tags"] for result in task["result"]] == [["red boat"]]


def test_a_wrong_synonyms_file_is_reported_and_needs_no_restart(
    data: Path,
) -> None:
    path = data.parent / "synonyms.txt"
    path.write_text("nonsense\n")
    with_synonyms = data.parent / "captiond.toml"
    with_synonyms.write_text(f'[tags]\nsynonyms = "{path}"\n')
    with Service(data, "--config", str(with_synonyms)) as service:
        reason = f"tags.synonyms = {path}: line 1: "
        wait_for(lambda: reason in service.client.get("/readyz").text, "the reason")
        path.write_text("boat = ship\n")
        service.wait_ready()
        assert caption(service)["tags"] == ["red ship", "ship", "sun", "yellow sun"]


THINGS = "red boat, yellow sun, blue boat, sun, green tree, zebra"


def scored(body: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return the kind of each tag that has a score, and whether it has a place in the caption."""
    return {
        detail["tag"]: (detail["kind"], detail["start"] is not None)
        for detail in body["tag_details"]
        if "score" in detail
    }


def test_a_request_has_its_own_vocabulary(service: Service) -> None:
    body = caption(service, vocabulary=THINGS, tag_kinds="vocabulary")
    assert body["tags"] == ["red boat", "yellow sun"]
    assert scored(body) == {"red boat": ("phrase", True), "yellow sun": ("phrase", True)}
    more = caption(service, vocabulary=THINGS, vocabulary_threshold="-20", tag_deny="red*")
    assert "green tree" in more["tags"]
    assert "zebra" not in more["tags"], "a word that the model does not know has no score"
    assert scored(more)["green tree"] == ("vocabulary", False)
    assert "score" not in str(caption(service)["tag_details"])


def test_a_form_has_room_for_as_many_tags_as_a_request_may_have(service: Service) -> None:
    tags = ["red boat", *(f"the tag of the number {number}" for number in range(1, 1000))]
    body = caption(service, vocabulary=json.dumps(tags), tag_kinds="vocabulary")
    assert body["tags"] == ["red boat"]


def test_the_cache_knows_which_vocabulary_a_caption_had(service: Service) -> None:
    fields = {"vocabulary": "red boat, blue star", "vocabulary_threshold": "2"}
    wait_for(lambda: caption(service, **fields)["cached"], "the caption in the cache")
    assert scored(caption(service, **fields)).keys() == {"red boat"}
    assert not caption(service, vocabulary="yellow sun", vocabulary_threshold="2")["cached"]
    assert scored(caption(service)) == {}


def test_json_and_tasks_have_vocabularies(service: Service) -> None:
    document = {
        "image": base64.b64encode((DATA / BOAT).read_bytes()).decode(),
        "vocabulary": ["yellow sun", "red fish"],
        "tag_kinds": ["vocabulary"],
    }
    assert service.client.post("/caption", json=document).json()["tags"] == ["yellow sun"]
    files = [("images", upload(BOAT))]
    fields = {"vocabulary": '["yellow sun", "red fish"]', "tag_kinds": "vocabulary"}
    accepted = service.client.post("/async-batch-caption", files=files, data=fields).json()
    (result,) = service.finished(accepted["task_id"])["result"]
    assert result["tags"] == ["yellow sun"]
    csv = service.client.get(f"/async-batch-caption/results/{accepted['task_id']}?format=csv")
    assert "yellow sun" in csv.text


def test_reranking_needs_a_matching_model(service: Service) -> None:
    response = service.client.post(
        "/caption", files={"image": upload(BOAT)}, data={"rerank": "true", "num_captions": "2"}
    )
    assert response.status_code == 422
    assert response.json()["code"] == "option_not_supported"
    assert response.json()["detail"] == "the model does not support rerank"

"""Captions in German, over HTTP, by a service with a real model for translation."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from captiond.cli.captioning.in_process import with_one_language
from captiond.client import Captiond
from captiond.settings.config import Settings
from captiond.settings.option_settings import TranslationSettings
from tests.answers import BY_NAME, check
from tests.commands import command
from tests.conftest import png
from tests.marian import write_marian
from tests.receiver import receiving
from tests.service import (
    DATA,
    FRESH,
    Service,
    captiond,
    running,
    running_without_model,
    wait_for,
)

SUN = "boat_and_sun.png"
ENGLISH, GERMAN = "a red boat to the left of a yellow sun", "Boot rot links von Sonne gelb"
STUTTERS = "moon_above_fish_and_apple.jpg"
GERMAN_TAGS = ["Boot", "Sonne", "gelbe Sonne", "rotes Boot"]
IMAGES = 10


def languages(folder: Path, **others: str) -> dict[str, str]:
    models = f"de={folder},nl=/nowhere/at/all,it={folder / 'broken'}"
    return {"CAPTIOND_TRANSLATION__MODELS": models, **others}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and in it another one that is broken."""
    folder = write_marian(tmp_path_factory.mktemp("models") / "opus")
    broken = write_marian(folder / "broken")
    (broken / "vocab.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def german(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("german") / "data"
    with running(data, **languages(model)) as service:
        yield service


def image(name: str = SUN) -> dict[str, tuple[str, bytes]]:
    return {"image": (name, (DATA / name).read_bytes())}


def captioned(service: Service, name: str = SUN, **options: str) -> dict[str, Any]:
    response = service.client.post("/caption", files=image(name), data=options)
    assert response.status_code == 200, response.text
    check(BY_NAME["caption"], response)
    body: dict[str, Any] = response.json()
    return body


def test_a_caption_in_german(german: Service) -> None:
    body = captioned(german, caption_language="de")
    assert (body["caption"], body["caption_en"]) == (GERMAN, ENGLISH)
    assert (body["caption_language"], body["raw_caption"]) == ("de", ENGLISH)
    assert body["alt_text"] == f"{GERMAN}."
    assert body["tags"] == GERMAN_TAGS
    assert "notes" not in body
    boat = next(tag for tag in body["tag_details"] if tag["tag"] == "rotes Boot")
    assert (boat["tag_en"], boat["lemma"], boat["category"]) == ("red boat", "Boot", "vehicle")
    assert body["caption_en"][boat["start"] : boat["end"]] == "red boat"


def test_without_the_option_nothing_changes(german: Service, service: Service) -> None:
    for name in (SUN, STUTTERS):
        here, there = captioned(german, name), captioned(service, name)
        for body in (here, there):
            del body["processing_time"], body["cached"]
        assert here == there
    assert captioned(german, caption_language="en")["caption"] == ENGLISH


def test_the_captions_of_each_language_are_cached_apart(german: Service) -> None:
    side = {"image": ("a.png", png(1, 97))}

    def post(**options: str) -> dict[str, Any]:
        body: dict[str, Any] = german.client.post("/caption", files=side, data=options).json()
        return body

    with german.caching():
        assert not post(caption_language="de")["cached"]
    assert post(caption_language="de")["cached"]
    assert post()["cached"], "the English caption was stored with the German one"
    assert post(caption_language="de") | {"processing_time": 0} == post(caption_language="de") | {
        "processing_time": 0
    }
    assert "caption_en" not in post()
    # What is not translated has the key of the English caption.
    noted = post(caption_language="nl")
    assert noted["cached"]
    assert noted["notes"]


def test_an_image_is_not_captioned_again_for_another_language(german: Service) -> None:
    with german.caching():
        first = captioned(german, "star_inside_circle.png")
    second = captioned(german, "star_inside_circle.png", caption_language="de")
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["caption_en"] == first["caption"] == second["raw_caption"]
    assert second["caption"] == "Stern gelb in Kreis blau"
    again = captioned(german, "star_inside_circle.png", caption_language="de")
    assert {**again, "processing_time": 0} == {**second, "processing_time": 0}


def test_several_captions_are_all_translated(german: Service) -> None:
    body = captioned(german, caption_language="de", num_captions="3")
    assert len(body["captions"]) == 3
    assert body["captions"][0]["caption"] == GERMAN
    assert body["captions"][0]["caption_en"] == ENGLISH
    assert all(each["raw_caption"] == each["caption_en"] for each in body["captions"])


def test_a_degenerate_translation_leaves_the_caption_in_english(german: Service) -> None:
    body = captioned(german, STUTTERS, caption_language="de")
    plain = captioned(german, STUTTERS)
    assert body["caption"] == plain["caption"]
    assert body["tags"] == plain["tags"]
    assert "caption_en" not in body
    (note,) = body["notes"]
    assert "its translation makes no sense" in note
    # It would fail again, so it is kept.
    wait_for(lambda: captioned(german, STUTTERS, caption_language="de")["cached"], "the cache")


@pytest.mark.parametrize("language", ["nl", "it"])
def test_a_model_that_is_missing_or_broken_leaves_captions_in_english(
    german: Service, language: str
) -> None:
    body = captioned(german, caption_language=language)
    assert body["caption"] == ENGLISH
    assert body["notes"] == [
        "caption_language: the caption is in English, because the translation does not work"
    ]
    reasons = {
        each["language"]: each["reason"] for each in german.logged("translation_unavailable")
    }
    assert language in reasons
    assert reasons[language]


def test_an_unknown_language_is_refused_with_the_known_ones(german: Service) -> None:
    for response in (
        german.client.post("/caption", files=image(), data={"caption_language": "fr"}),
        german.client.post(
            "/async-batch-caption",
            files=[("images", image()["image"])],
            data={"caption_language": "fr"},
        ),
    ):
        assert response.status_code == 422
        (problem,) = response.json()["detail"]
        assert problem["loc"] == ["body", "caption_language"]
        assert problem["msg"].endswith("one of these languages: en, de, nl, it")


def test_the_service_says_which_languages_work(german: Service, service: Service) -> None:
    response = german.client.get("/info")
    check(BY_NAME["info"], response)
    body = response.json()
    assert body["caption_languages"] == ["en", "de"]
    assert body["default_caption_language"] == "en"
    assert service.client.get("/info").json()["caption_languages"] == ["en"]


def test_a_json_request_and_a_batch_with_other_languages(german: Service) -> None:
    files = [("images", image(name)["image"]) for name in (SUN, STUTTERS, SUN)]
    files.append(("images", ("broken.png", b"nothing")))
    response = german.client.post("/batch-caption", files=files, data={"caption_language": "de"})
    check(BY_NAME["batch_caption"], response)
    first, stutter, again, refused = response.json()["results"]
    assert first["caption"] == again["caption"] == GERMAN
    assert stutter["error"] is None
    assert refused["caption"] is None
    typed = {"path": SUN, "caption_language": 3}
    response = german.client.post("/caption", json=typed)
    assert response.status_code == 422


def test_the_python_client_has_both_captions(german: Service) -> None:
    with Captiond(german.url) as client:
        result = client.caption(DATA / SUN, caption_language="de", num_captions=2)
        assert (result.caption, result.caption_en) == (GERMAN, ENGLISH)
        assert result.caption_language == "de"
        assert result.captions[0].caption_en == ENGLISH
        assert "red boat" in {tag.tag_en for tag in result.tag_details}
        plain = client.caption(DATA / SUN)
        assert (plain.caption_en, plain.caption_language) == (None, None)


def test_time_and_outcomes_are_measured(german: Service) -> None:
    def metrics() -> str:
        captioned(german, caption_language="de", no_cache="true")
        captioned(german, STUTTERS, caption_language="de", no_cache="true")
        text = german.client.get("/metrics").text
        return text if 'captiond_stage_seconds_count{stage="translation"}' in text else ""

    text = wait_for(metrics, "the time of a translation")
    for outcome in ("translated", "degenerate"):
        assert f'captiond_translations_total{{language="de",outcome="{outcome}"}}' in text
    timings = german.logged("processing_time")[-1]
    assert timings["translation"] > 0


def ollama_answer(client: httpx.Client, content: bytes) -> str:
    images = [base64.b64encode(content).decode()]
    asked = {"model": "captiond", "prompt": "what is it?", "images": images, "stream": False}
    response = client.post("/api/generate", json=asked)
    assert response.status_code == 200, response.text
    text: str = response.json()["response"]
    return text


def test_a_task_keeps_its_language_although_the_settings_choose_another_one(
    model: Path, data: Path
) -> None:
    """Webhooks have German words. So has what clients of other services get by the new settings."""
    own = data.parent / "own.tsv"
    own.write_text("boat\tKahn\tm\n", "utf-8")
    german = {
        "CAPTIOND_TRANSLATION__LANGUAGE": "de",
        "CAPTIOND_TRANSLATION__DICTIONARIES": f"de={own}",
    }
    with receiving() as receiver:
        environ = languages(model, **FRESH, CAPTIOND_WEBHOOKS__ALLOW="127.0.0.1")
        with running_without_model(data, **environ) as service:
            english_task = accepted(service, caption_language="en")
            task_id = accepted(service, caption_language="de", callback_url=receiver.url())
            service.kill()
        with running(data, **environ, **german) as service:
            english, task = service.finished(english_task), service.finished(task_id)
            events = service.client.get(f"/async-batch-caption/events/{task_id}").text
            (call,) = receiver.wait_for_calls(1)
            check_german_by_default(service)
    assert english["status"] == task["status"] == "COMPLETED"
    assert {each["caption"] for each in english["result"]} == {ENGLISH}
    assert {each["caption"] for each in task["result"]} == {GERMAN}
    assert {each["caption_en"] for each in task["result"]} == {ENGLISH}
    assert events.count(json.dumps(GERMAN)) == IMAGES
    assert GERMAN in str(call)


def accepted(service: Service, **options: str) -> str:
    """Send a task of several images, and return its id."""
    files = [("images", image()["image"])] * IMAGES
    response = service.client.post("/async-batch-caption", files=files, data=options)
    task_id: str = response.json()["task_id"]
    return task_id


def check_german_by_default(service: Service) -> None:
    """Check what a service answers whose settings choose German, with a dictionary of its own."""
    body = captioned(service)
    assert body["caption"] == GERMAN
    assert "roter Kahn" in body["tags"]
    assert captioned(service, caption_language="en")["caption"] == ENGLISH
    assert ollama_answer(service.client, (DATA / SUN).read_bytes()) == GERMAN


def test_the_command_writes_german_files(model: Path, german: Service, tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    environ = languages(model)
    for number, flags in enumerate(([], ["--url", german.url])):
        picture.write_bytes((DATA / SUN).read_bytes())
        flags += ["--sidecar", "xmp", "--embed", "--overwrite"]
        if number == 0:
            flags += ["--model", "captiond/scenes", "--data-dir", str(tmp_path / "data")]
        done = captiond(
            "caption", str(picture), "--language", "de", *flags, cwd=tmp_path, **environ
        )
        assert done.returncode == 0, done.stderr
        body = json.loads(done.stdout)
        assert (body["caption"], body["caption_en"]) == (GERMAN, ENGLISH)
        assert body["tags"] == GERMAN_TAGS
        xmp = (tmp_path / "photo.png.xmp").read_text()
        for written in (xmp, picture.read_bytes().decode("latin-1")):
            assert f'<rdf:li xml:lang="x-default">{GERMAN}</rdf:li>' in written
            assert f'<rdf:li xml:lang="de">{GERMAN}</rdf:li>' in written
            assert f'<rdf:li xml:lang="en">{ENGLISH}</rdf:li>' in written


def test_a_pull_gets_the_models_for_translation_as_well(model: Path, tmp_path: Path) -> None:
    models = {"CAPTIOND_TRANSLATION__MODELS": f"de={model}"}
    done = command("pull", "--set", "model.name=captiond/scenes", cwd=tmp_path, **models)
    assert done.returncode == 0, done.stderr
    folders = done.stdout.splitlines()
    assert len(folders) == 2
    assert folders[1] == str(model)
    assert f"{model} is a folder on this machine" in done.stderr
    only = command("pull", "captiond/scenes", cwd=tmp_path, **models)
    assert only.stdout.splitlines() == folders[:1]


def test_a_command_loads_the_model_of_its_language_only() -> None:
    models = {"de": "a/b", "fr": "c/d"}
    english = Settings(translation=TranslationSettings(models=models))
    assert with_one_language(english).translation.models == {}
    french = Settings(translation=TranslationSettings(models=models, language="fr"))
    assert with_one_language(french).translation.models == {"fr": "c/d"}


def test_the_check_names_models_that_do_not_work(model: Path, tmp_path: Path) -> None:
    done = command(
        "check",
        "--data-dir",
        str(tmp_path / "data"),
        "--set",
        "model.name=captiond/scenes",
        "--port",
        "0",
        cwd=tmp_path,
        **languages(model),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split(":")[0]: line for line in done.stdout.splitlines()}
    assert "ok    translation de" in lines
    assert "tags" in lines["ok    translation de"]
    assert "warn  translation nl" in lines
    assert "its vocabulary cannot be read" in lines["warn  translation it"]

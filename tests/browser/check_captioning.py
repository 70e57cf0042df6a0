"""Images are captioned on the web page: one by one, told apart, copied, filtered, downloaded."""

import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.pages import (
    A_BOAT,
    A_STAR,
    BOAT,
    NARROW,
    NAS,
    NO_IMAGE,
    NOT_AN_IMAGE,
    STAR,
    WIDE,
    CaptionPage,
    profile,
)
from tests.service import DATA, Service

CAT = DATA / "black_cat.jpg"


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_images_are_captioned_by_keyboard(browser: Browser, service: Service, width: int) -> None:
    context = profile(browser, width, dark=width == NARROW)
    page = CaptionPage(context).open(f"{service.url}/")
    page.wait_for_text("Ready", "#health").choose([BOAT, NO_IMAGE, STAR])
    page.wait("document.activeElement.id === 'send'")
    page.page.keyboard.press("Enter")
    page.finished()
    assert page.captions() == [A_BOAT, NOT_AN_IMAGE, A_STAR]
    expect(page["#batch-state"]).to_have_text("2 captioned · 1 failed")
    expect(page.card(1).locator(".tag")).to_have_text(["boat", "red boat", "sun", "yellow sun"])
    expect(page.card(2).locator(".placeholder")).to_be_visible()
    assert not page.overflows()
    page["#leave"].focus()
    page.tab_to("HTTP API")
    page.page.keyboard.press("Enter")
    page.page.wait_for_url("**/docs")
    assert page.complaints == []
    context.close()


def test_images_of_the_same_name_are_told_apart(
    page: CaptionPage, service: Service, tmp_path: Path
) -> None:
    files = []
    for number, source in enumerate((BOAT, STAR, NO_IMAGE, BOAT)):
        folder = tmp_path / str(number)
        folder.mkdir()
        files.append(Path(shutil.copy(source, folder / "same.png")))
    page.open(f"{service.url}/").caption(*files)
    assert page.captions() == [A_BOAT, A_STAR, NOT_AN_IMAGE, A_BOAT]
    for round_ in ("sent", "reloaded"):
        for number, file in ((1, BOAT), (2, STAR), (4, BOAT)):
            with Image.open(file) as picture:
                dot = picture.convert("RGB").resize((1, 1), Image.Resampling.BOX)
            wanted = dot.getpixel((0, 0))
            assert isinstance(wanted, tuple)
            found = page.colour(number)
            assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 40, round_
        expect(page.card(3).locator(".placeholder")).to_be_visible()
        expect(page.card(2).locator(".name")).to_have_text("2 same.png")
        page.reload().finished()
    assert page.captions() == [A_BOAT, A_STAR, NOT_AN_IMAGE, A_BOAT]


def test_options_are_sent_and_folded_away(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").choose([BOAT])
    expect(page["#options"]).to_be_visible()
    expect(page["[name=num_captions]"]).to_be_hidden()
    page["#options > summary"].click()
    page["[name=num_captions]"].fill("9")
    page.send()
    assert page.value("document.querySelector('[name=num_captions]').validity.rangeOverflow")
    page["[name=num_captions]"].fill("3")
    page["[name=num_beams]"].fill("4")
    page["[name=tag_deny]"].fill("yellow sun")
    page.send().finished()
    expect(page.card(1).locator(".tag")).to_have_text(["boat", "red boat", "sun"])
    page.card(1).locator(".thumb").click()
    expect(page["#details-facts ol > li"]).to_have_count(3)
    page["#details-close"].click()
    page["#snippets > summary"].click()
    for part in (
        "num_captions=3",
        "num_beams=4",
        "tag_deny=yellow sun",
        "images=@boat_and_sun.png",
    ):
        expect(page["#snippet"]).to_contain_text(part)


def test_tags_can_be_chosen_from_words_and_repetition_limited(
    page: CaptionPage, service: Service
) -> None:
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").choose([BOAT])
    page["#options > summary"].click()
    page["[name=no_repeat_ngram_size]"].fill("2")
    page["[name=vocabulary]"].fill("boat, sheep")
    page.send().finished()
    tags = page.card(1).locator(".tag")
    expect(tags.filter(has_text=re.compile("^boat$"))).to_have_count(1)
    expect(tags.filter(has_text="sheep")).to_have_count(0)
    page["#snippets > summary"].click()
    for part in ("no_repeat_ngram_size=2", "vocabulary=boat, sheep"):
        expect(page["#snippet"]).to_contain_text(part)


def test_an_option_that_the_service_refuses_is_reported(
    page: CaptionPage, service: Service
) -> None:
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").choose([BOAT, STAR])
    page["#options > summary"].click()
    page["[name=num_captions]"].fill("4")
    page["[name=num_beams]"].fill("2")
    page.send().finished()
    reason = "num_captions: Input should be at most num_beams, which is 2"
    assert page.captions() == [reason, reason]


def clipboard(page: CaptionPage) -> str:
    text: str = page.value("navigator.clipboard.readText()")
    return text


def test_captions_and_tags_are_copied(
    page: CaptionPage, context: BrowserContext, service: Service
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.open(f"{service.url}/").caption(BOAT)
    page.page.get_by_role("button", name="Copy the caption of image 1").click()
    expect(page["#toast"]).to_have_text(f"Copied: {A_BOAT}")
    assert clipboard(page) == A_BOAT
    page.page.get_by_role("button", name="Copy the tags of image 1").click()
    expect(page["#toast"]).to_have_text("Copied: the tags")
    assert clipboard(page) == "boat, red boat, sun, yellow sun"


def test_without_tls_there_is_a_copy_all_the_same(page: CaptionPage, service: Service) -> None:
    """navigator.clipboard is missing on a page of another machine without TLS."""
    page.open(service.url.replace("127.0.0.1", NAS) + "/")
    assert page.value("isSecureContext") is False
    page.caption(BOAT)
    page.page.get_by_role("button", name="Copy the caption of image 1").click()
    page["#filter-words"].focus()
    page.page.keyboard.press("Control+V")
    assert page["#filter-words"].input_value() == A_BOAT
    page["#filter-words"].fill("")
    page.card(1).locator(".thumb").click()
    page["#details-facts"].get_by_role("button", name="Copy tags").click()
    page["#details-close"].click()
    page["#filter-words"].focus()
    page.page.keyboard.press("Control+V")
    assert page["#filter-words"].input_value() == "boat, red boat, sun, yellow sun"


def downloaded(page: CaptionPage, text: str, folder: Path) -> bytes:
    page["#download > summary"].click()
    with page.page.expect_download() as started:
        page["#download-list"].get_by_role("button", name=text, exact=True).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    assert path.suffix in {".csv", ".json", ".jsonl", ".txt", ".zip"}
    return path.read_bytes()


def test_results_are_downloaded(page: CaptionPage, service: Service, tmp_path: Path) -> None:
    page.open(f"{service.url}/").caption(BOAT, NO_IMAGE, STAR)
    (task_id,) = page.task_ids
    results = service.client.get(f"/async-batch-caption/results/{task_id}")
    assert downloaded(page, "JSON", tmp_path) == results.content
    for text, form in (("CSV, for spreadsheets", "csv"), ("JSON lines", "ndjson")):
        answer = service.client.get(f"/async-batch-caption/results/{task_id}?format={form}")
        assert downloaded(page, text, tmp_path) == answer.content
    lines = downloaded(page, "Text: a line for each image", tmp_path).decode()
    assert lines == f"boat_and_sun.png\t{A_BOAT}\nstar_inside_circle.png\t{A_STAR}\n"


def test_a_zip_has_a_text_for_each_image(
    page: CaptionPage, service: Service, tmp_path: Path
) -> None:
    """Programs for training sets expect it. Files of the same name get numbers."""
    other = tmp_path / "other"
    other.mkdir()
    files = [BOAT, NO_IMAGE, Path(shutil.copy(STAR, other / BOAT.name)), STAR]
    files.append(Path(shutil.copy(STAR, other / "bäum.tiff.png")))
    page.open(f"{service.url}/").caption(*files)
    content = downloaded(page, "Text files in a zip: one for each image", tmp_path)
    with ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert texts == {
        "boat_and_sun.txt": f"{A_BOAT}\n",
        "boat_and_sun-2.txt": f"{A_STAR}\n",
        "star_inside_circle.txt": f"{A_STAR}\n",
        "bäum.tiff.txt": f"{A_STAR}\n",
    }


def test_images_are_filtered(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").caption(BOAT, NO_IMAGE, STAR, CAT)
    shown = page["#grid > :not([hidden])"]
    page.card(1).get_by_role("button", name="red boat").click()
    expect(shown).to_have_count(1)
    expect(page["#filter-count"]).to_have_text("1 of 4 shown")
    page["#filter-clear"].click()
    expect(shown).to_have_count(4)
    page["#filter-category"].select_option("shape")
    expect(shown).to_have_count(1)
    expect(shown.locator(".caption")).to_have_text([A_STAR])
    page["#filter-category"].select_option("")
    page["#filter-state"].select_option("failed")
    expect(shown.locator(".reason")).to_have_text([NOT_AN_IMAGE])
    page["#filter-state"].select_option("")
    page["#filter-words"].fill("BLACK cat.jpg")
    expect(shown.locator(".name")).to_have_text(["4 black_cat.jpg"])


def imported(page: CaptionPage, module: str, names: str, work: str) -> Any:
    """Return what a function makes of the names of a module of the page."""
    return page.value(f"import('/static/page/{module}.js').then(({{ {names} }}) => {work})")


def test_requests_keep_to_all_limits(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/")
    sizes, mega = [*range(40)], 2**20
    limits = {"files": 7, "body_bytes": 100 * mega, "file_bytes": 50 * mega}
    parts = imported(
        page,
        "upload_queue",
        "partsOf",
        f"partsOf({sizes}.map((n) => ({{ n, size: n * {mega} }})), {json.dumps(limits)})",
    )
    assert [item["n"] for part in parts for item in part] == sizes
    assert all(len(part) <= limits["files"] for part in parts)
    assert sum(item["size"] for item in parts[0]) <= 16 * mega  # the first captions come soon
    assert all(sum(item["size"] for item in part) < limits["body_bytes"] for part in parts)


def test_the_time_left_follows_the_pace(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/")
    work = """(() => {
      const left = new TimeLeft(), seen = [left.seconds(100, 0)];
      for (let second = 0; second <= 10; second += 1) left.add(2 * second, 1000 * second);
      seen.push(left.seconds(100, 10_000));
      for (let second = 11; second <= 200; second += 1) left.add(20, 1000 * second);
      seen.push(left.seconds(100, 200_000));
      for (let second = 201; second <= 300; second += 1) left.add(20 + second - 200, 1000 * second);
      return [...seen, left.seconds(140, 300_000)];
    })()"""
    unknown, steady, stalled, slower = imported(page, "time_left", "TimeLeft", work)
    assert unknown is None
    assert steady == pytest.approx(40, rel=0.1)  # 80 images at two in a second
    assert stalled is None
    assert slower == pytest.approx(20, rel=0.1)  # 20 images at one in a second


def test_score_and_model_are_shown_on_demand(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").caption(BOAT)
    expect(page.card(1).locator(".score")).to_be_hidden()
    page["#with-score"].check()
    (task_id,) = page.task_ids
    score = service.task(task_id)["result"][0]["score"]
    expect(page.card(1).locator(".score")).to_contain_text("captiond/scenes")
    text = page.card(1).locator(".score").inner_text()
    assert float(text.split("score ")[1].split(" ")[0]) == pytest.approx(score, rel=0.01)


def test_details_are_read_with_the_arrow_keys(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").caption(BOAT, NO_IMAGE, STAR)
    page.card(1).locator(".thumb").press("Enter")
    expect(page["#details .caption"]).to_have_text(A_BOAT)
    expect(page["#details-picture img"]).to_be_visible()
    expect(page["#details tbody tr"]).to_have_count(4)
    page.page.keyboard.press("ArrowRight")
    expect(page["#details .reason"]).to_have_text(NOT_AN_IMAGE)
    expect(page["#details .placeholder"]).to_be_visible()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    expect(page["#details .caption"]).to_have_text(A_STAR)
    page.page.keyboard.press("Escape")
    expect(page["#details"]).to_be_hidden()
    assert page.complaints == []


def test_the_snippets_do_what_the_page_did(
    page: CaptionPage, service: Service, tmp_path: Path
) -> None:
    """Each is run as it is, in a folder that has the files."""
    names = ['it\'s; a "test", $1.png', "star.png"]
    files = [Path(shutil.copy(source, tmp_path / name))
             for source, name in zip((BOAT, STAR), names, strict=True)]  # fmt: skip
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").choose(files)
    page["#options > summary"].click()
    page["[name=prompt]"].fill("a red")
    page.send().finished()
    captions = page.captions()
    page["#snippets > summary"].click()
    sent = [name.replace('"', "%22") for name in names]  # as the standard of HTML forms has it
    for language in ("curl", "Python", "JavaScript"):
        page["#snippet-tabs"].get_by_role("tab", name=language).click()
        output = run_snippet(language, page["#snippet"].inner_text(), tmp_path)
        if language == "curl":
            task = service.finished(json.loads(output)["task_id"])
            assert [each["caption"] for each in task["result"]] == captions
            assert [each["image_path"] for each in task["result"]] == sent
        else:
            pairs = zip(sent, captions, strict=True)
            assert output == "".join(f"{name}: {caption}\n" for name, caption in pairs)


def run_snippet(language: str, text: str, folder: Path) -> str:
    """Run a snippet, and return what it prints. Playwright has a Node of its own."""
    node, _ = compute_driver_executable()
    (folder / "snippet.mjs").write_text(text)
    command = {
        "curl": ["bash", "-c", text],
        "Python": [sys.executable, "-c", text],
        "JavaScript": [str(node), "snippet.mjs"],
    }[language]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

"""A task on the web page survives what happens to the page, the service and the network."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Dialog, Request, expect

from tests.browser.pages import A_BOAT, BOAT, NO_IMAGE, NOT_AN_IMAGE, STAR, CaptionPage
from tests.conftest import png
from tests.proxies import proxy
from tests.service import Service, query, running, running_without_model, wait_for
from tools.scenes.dataset import draw_sample

MANY, DAMAGED_EACH, NO_IMAGE_EACH = 300, 10, 15
STORED = "Object.keys(localStorage).filter((name) => name.startsWith('captiond.recent'))"

KEPT_THUMBNAILS = """
new Promise((resolve) => {
  const opening = indexedDB.open("captiond /");
  opening.onsuccess = () => {
    const counting = opening.result.transaction("thumbnails").objectStore("thumbnails").count();
    counting.onsuccess = () => resolve(counting.result);
  };
})
"""


def mixed_files(folder: Path, count: int) -> list[Path]:
    """Write drawn scenes, of which some are damaged and some are no images."""
    folder.mkdir()
    files = []
    for number in range(count):
        jpeg = draw_sample(19, number).jpeg
        content = jpeg
        if number % DAMAGED_EACH == 3:
            content = jpeg[: len(jpeg) // 3]
        if number % NO_IMAGE_EACH == 5:
            content = b"no image"
        files.append(folder / f"photo {number:03}.jpg")
        files[-1].write_bytes(content)
    return files


def free_port() -> int:
    with closing(socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def expected(results: list[dict[str, Any]]) -> list[str]:
    return [each["caption"] or each["error"] for each in results]


def test_300_files_a_reload_and_a_restart(page: CaptionPage, data: Path, tmp_path: Path) -> None:
    """The service is killed while the reloaded page follows it, and starts again later."""
    files, port = mixed_files(tmp_path / "photos", MANY), str(free_port())
    with running(data, "--port", port) as service:
        page.open(f"{service.url}/").choose(files).send()
        page.wait("document.querySelectorAll('.card .caption').length > 0")
        service.child("model").suspend()
        page.wait("!document.querySelector('[data-state=sending]')")
        page.card(MANY).scroll_into_view_if_needed()
        page.card(MANY).locator(".thumb img").wait_for()
        wait_for(lambda: page.value(KEPT_THUMBNAILS) > 2, "kept thumbnails")
        page.reload()
        page.wait(f"document.querySelectorAll('.card').length === {MANY}")
        page.wait("document.querySelectorAll('.card .caption').length > 0")
        expect(page.card(MANY).locator(".name")).to_have_text(f"{MANY} {files[-1].name}")
        page.wait("document.querySelector('[data-state=waiting]') !== null")
        service.kill()
        expect(page["#batch-problem"]).to_contain_text("The page tries again.")
        expect(page["#health-text"]).to_contain_text("does not answer")
    with running(data, "--port", port) as service:
        page.finished()
        (task_id,) = page.task_ids
        results = service.task(task_id)["result"]
        assert page.captions() == expected(results)
        assert len(results) == MANY
        assert 30 < sum(each["error"] is not None for each in results) < 60
        expect(page["#batch-problem"]).to_be_empty()
        # The thumbnails are those of the files, which the page does not have any more.
        page.card(2).locator(".thumb img").wait_for()
        page.card(MANY).scroll_into_view_if_needed()
        page.card(MANY).locator(".thumb img").wait_for()
        page.card(6).scroll_into_view_if_needed()
        page.card(6).locator(".placeholder").wait_for()
        page.reload().finished()
        assert page.captions() == expected(results)
    assert page.troubles() == []


def test_another_browser_shows_a_task_by_its_address(browser: Browser, service: Service) -> None:
    first, second = browser.new_context(), browser.new_context()
    page = CaptionPage(first).open(f"{service.url}/").caption(BOAT, NO_IMAGE)
    other = CaptionPage(second).open(page.page.url).finished()
    assert other.captions() == [A_BOAT, NOT_AN_IMAGE]
    expect(other.card(1).locator(".name")).to_have_text("1 boat_and_sun.png")
    expect(other.card(1).locator(".placeholder")).to_be_visible()
    assert page.complaints == other.complaints == []
    first.close()
    second.close()


def test_an_unknown_task_is_reported(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/#task_1_{'0' * 32}")
    expect(page["#batch-problem"]).to_have_text("The service does not have this task any more.")
    expect(page["#cancel"]).to_be_hidden()


def test_recent_tasks_are_listed_opened_and_forgotten(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/").caption(BOAT)
    first = page.task_ids
    page["#leave"].click()
    page.caption(STAR, NO_IMAGE)
    second = page.task_ids
    entries = page["#recent-list a"]
    expect(entries).to_have_count(2)
    expect(entries.nth(0)).to_contain_text("2 images")
    expect(entries.nth(0)).to_contain_text("1 without a caption")
    page.open(f"{service.url}/")
    expect(page["#batch"]).to_be_hidden()
    expect(entries.nth(1).locator("img")).to_be_visible()
    entries.nth(1).click()
    page.finished()
    assert (page.task_ids, page.captions()) == (first, [A_BOAT])
    page.page.go_back()
    expect(page["#batch"]).to_be_hidden()
    page["#recent-list button"].nth(1).click()
    expect(entries).to_have_count(1)
    page["#recent-clear"].click()
    expect(page["#recent"]).to_be_hidden()
    page.open(f"{service.url}/#{second[0]}").reload().finished()
    expect(page.card(1).locator(".placeholder")).to_be_visible()
    assert page.complaints == []


def test_a_task_is_cancelled(page: CaptionPage, data: Path) -> None:
    with running_without_model(data) as service:
        files = {"images": ("a.png", png(1))}
        assert service.client.post("/async-batch-caption", files=files).status_code == 202
        page.open(f"{service.url}/").choose([BOAT]).send()
        expect(page["#progress-text"]).to_contain_text("waits behind 1 image of other tasks")
        page["#cancel"].click()
        assert page.finished().captions() == ["Cancelled."]
        page.choose([BOAT, NO_IMAGE, STAR]).send()
        page.wait("document.querySelectorAll('[data-state=waiting]').length === 2")
        expect(page["#progress-text"]).to_contain_text("1 of 3 finished")
        page["#cancel"].click()
        page.finished()
        assert page.captions() == ["Cancelled.", NOT_AN_IMAGE, "Cancelled."]
        (task_id,) = page.task_ids
        assert service.task(task_id)["status"] == "CANCELLED"
        page.reload().finished()
        assert page.captions() == ["Cancelled.", NOT_AN_IMAGE, "Cancelled."]


def test_failed_images_are_tried_again(page: CaptionPage, data: Path, tmp_path: Path) -> None:
    """The file with the images is away for a while, as if the disk were."""
    with running_without_model(data) as service:
        page.open(f"{service.url}/").choose([BOAT, NO_IMAGE]).send()
        page.wait("document.querySelectorAll('[data-state=waiting]').length === 1")
        (spool,) = (data / "spool").iterdir()
        shutil.move(spool, tmp_path / "away")
        service.child("model").resume()
        page.finished()
        expect(page["#retry"]).to_be_visible()
        shutil.move(tmp_path / "away", spool)
        page["#retry"].click()
        page.wait("document.querySelector('.card .caption') !== null").finished()
        assert page.captions() == [A_BOAT, NOT_AN_IMAGE]
        expect(page["#retry"]).to_be_hidden()


def test_requests_are_as_large_as_the_service_allows(
    page: CaptionPage, data: Path, tmp_path: Path
) -> None:
    files = mixed_files(tmp_path / "photos", 10)
    with running(data, CAPTIOND_LIMITS__FILES="4") as service:
        page.open(f"{service.url}/").wait_for_text("Ready", "#health").caption(*files)
        assert len(page.task_ids) == 3
        results = [each for task_id in page.task_ids for each in service.task(task_id)["result"]]
        assert [each["image_path"] for each in results] == [file.name for file in files]
        assert page.captions() == expected(results)
        page.reload().finished()
        assert page.captions() == expected(results)
        page["#download > summary"].click()
        with page.page.expect_download() as started:
            page["#download-list"].get_by_role("button", name="JSON lines").click()
        lines = Path(started.value.path()).read_text("utf-8").splitlines()
        assert len(lines) == 10


def test_a_file_over_the_limit_is_not_sent(page: CaptionPage, data: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(BOAT.read_bytes() + os.urandom(3000))
    size = str(BOAT.stat().st_size + 100)
    with running(data, CAPTIOND_LIMITS__FILE_BYTES=size) as service:
        page.open(f"{service.url}/").wait_for_text("Ready", "#health").caption(large, BOAT)
        assert page.captions()[0].startswith("Too large: ")
        assert page.captions()[1] == A_BOAT
        (task_id,) = page.task_ids
        assert service.task(task_id)["progress"]["total"] == 1
        page.reload().finished()
        assert page.captions()[0].startswith("Too large: ")
        assert page.captions()[1] == A_BOAT


def test_a_full_queue_is_waited_for(page: CaptionPage, data: Path) -> None:
    with running_without_model(data, CAPTIOND_LIMITS__QUEUED_IMAGES="2") as service:
        files = {"images": ("a.png", png(1))}
        for _ in range(2):
            assert service.client.post("/async-batch-caption", files=files).status_code == 202
        page.open(f"{service.url}/").choose([BOAT]).send()
        expect(page["#batch-problem"]).to_contain_text("The upload waits: ")
        service.child("model").resume()
        page.finished()
        assert page.captions() == [A_BOAT]
        expect(page["#batch-problem"]).to_be_empty()
        assert query(data, "SELECT count(*) FROM tasks") == [(3,)]


def test_the_upload_is_shown_and_not_left_by_mistake(
    page: CaptionPage, service: Service, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(BOAT.read_bytes() + os.urandom(2_000_000))
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").choose([large])
    network = page.page.context.new_cdp_session(page.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.send()
    page.wait("document.getElementById('upload').value > 0")
    assert page.value("document.getElementById('upload').max > 2e6")
    expect(page["#upload-text"]).to_contain_text("of 1.9 MB")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.page.once("dialog", stay)
    page.page.close(run_before_unload=True)
    page.wait_here(lambda: bool(asked), "the question of the browser")
    assert asked == ["beforeunload"]
    page.finished()
    assert page.captions() == [A_BOAT]
    expect(page["#upload-row"]).to_be_hidden()


def test_the_page_polls_behind_a_proxy_that_collects_events(page: CaptionPage, data: Path) -> None:
    with running_without_model(data) as service, proxy(service.url, collects=True) as address:
        page.open(f"{address}/").choose([BOAT, NO_IMAGE]).send()
        page.wait("document.querySelectorAll('.card .reason').length === 1")
        service.child("model").resume()
        page.finished()
        assert page.captions() == [A_BOAT, NOT_AN_IMAGE]


def test_a_hidden_page_holds_no_connection(page: CaptionPage, data: Path) -> None:
    """A browser has six connections for all its pages of one service."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/events/" in request.url:
            asked.append(request.url.rpartition("?")[2])

    page.page.on("request", note)
    with running_without_model(data) as service:
        page.open(f"{service.url}/").choose([BOAT, NO_IMAGE]).send()
        page.wait("document.querySelectorAll('.card .reason').length === 1")
        assert asked == ["follow=true"]
        hide(page, "true")
        page.wait_here(lambda: len(asked) > 2, "polls")
        assert set(asked[1:]) == {"follow=false"}
        hide(page, "false")
        page.wait_here(lambda: asked[-1] == "follow=true", "a stream")
        service.child("model").resume()
        page.finished()
        assert page.captions() == [A_BOAT, NOT_AN_IMAGE]


def hide(page: CaptionPage, hidden: str) -> None:
    """Let the page believe that it is hidden. A browser without a window shows all its pages."""
    page.value(
        f"Object.defineProperty(document, 'hidden', {{ get: () => {hidden}, configurable: true }});"
        " document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_1000_images_stay_smooth(page: CaptionPage, service: Service, tmp_path: Path) -> None:
    """What is off the screen is neither laid out nor loaded, and the URLs of blobs are freed."""
    folder = tmp_path / "many"
    folder.mkdir()
    files = [folder / f"{number:04}.png" for number in range(1000)]
    for number, file in enumerate(files):
        file.write_bytes(png(number))
    page.open(f"{service.url}/").wait_for_text("Ready", "#health").caption(*files)
    page.wait("document.querySelectorAll('.card .caption').length === 1000")
    drawn = (
        "[...document.querySelectorAll('.card .text')].filter((text) =>"
        " text.checkVisibility({ contentVisibilityAuto: true })).length"
    )
    assert 0 < page.value(drawn) < 200
    assert page.value("document.querySelectorAll('.card img').length") < 200
    assert page.value("liveUrls.size") <= 2
    page["#filter-words"].fill("0999.png")
    expect(page["#grid > :not([hidden])"]).to_have_count(1)
    page["#filter-words"].fill("")
    page.card(1000).scroll_into_view_if_needed()
    page.card(1000).locator("img").wait_for()
    page.wait("liveUrls.size <= 2")
    page.reload().finished()
    page.wait("document.querySelectorAll('.card .caption').length === 1000")
    page.card(1000).scroll_into_view_if_needed()
    page.card(1000).locator("img").wait_for()
    assert page.complaints == []


def test_only_this_browser_keeps_the_list(context: BrowserContext, service: Service) -> None:
    page = CaptionPage(context).open(f"{service.url}/").caption(BOAT)
    assert len(page.value(STORED)) == 1
    other = CaptionPage(context).open(f"{service.url}/")  # a second tab of the same browser
    expect(other["#recent-list a"]).to_have_count(1)
    other["#recent-clear"].click()
    expect(page["#recent"]).to_be_hidden()

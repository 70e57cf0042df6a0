"""Files come to the web page in many ways: folders, drops, the clipboard, the camera of a phone."""

import shutil
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.pages import (
    A_BOAT,
    A_STAR,
    BOAT,
    NARROW,
    NO_IMAGE,
    NOT_AN_IMAGE,
    STAR,
    CaptionPage,
    profile,
)
from tests.service import Service


def holiday(folder: Path) -> Path:
    """A folder as cameras and computers leave them."""
    top = folder / "holiday"
    (top / "day 2" / "@eaDir").mkdir(parents=True)
    shutil.copy(BOAT, top / "a.png")
    shutil.copy(STAR, top / "day 2" / "a.png")
    shutil.copy(BOAT, top / "day 2" / "image10.jfif")
    shutil.copy(STAR, top / "day 2" / "image9.png")
    shutil.copy(BOAT, top / "day 2" / "@eaDir" / "small.png")
    shutil.copy(BOAT, top / "._a.png")
    (top / "notes.txt").write_text("no image")
    (top / ".DS_Store").write_text("x")
    return top


NAMES = ["1 holiday/a.png", "2 holiday/day 2/a.png", "3 holiday/day 2/image9.png",
         "4 holiday/day 2/image10.jfif"]  # fmt: skip


def test_a_folder_is_chosen(page: CaptionPage, service: Service, tmp_path: Path) -> None:
    page.open(f"{service.url}/")
    page["#folder"].set_input_files(holiday(tmp_path))
    expect(page["#grid .name"]).to_have_text(NAMES)
    expect(page["#toast"]).to_have_text("4 images added. 4 other files were left out.")
    page.send().finished()
    assert page.captions() == [A_BOAT, A_STAR, A_STAR, A_BOAT]
    (task_id,) = page.task_ids
    paths = [each["image_path"] for each in service.task(task_id)["result"]]
    assert [f"{n} {path}" for n, path in enumerate(paths, start=1)] == NAMES


def drop(page: CaptionPage, *paths: Path) -> None:
    """Drag files or folders from the desktop onto the page."""
    session = page.page.context.new_cdp_session(page.page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        point = {"type": kind, "x": 300, "y": 700, "data": data}  # far from the field for it
        session.send("Input.dispatchDragEvent", point)


def test_files_and_folders_are_dropped_anywhere(
    page: CaptionPage, service: Service, tmp_path: Path
) -> None:
    page.open(f"{service.url}/")
    drop(page, NO_IMAGE, BOAT)
    expect(page["#grid .name"]).to_have_text(["1 scenes.json", "2 boat_and_sun.png"])
    drop(page, holiday(tmp_path))
    expect(page["#grid .card"]).to_have_count(6)
    page.card(1).get_by_role("button", name="Remove scenes.json").click()
    expect(page["#grid .name"]).to_have_text(
        ["1 boat_and_sun.png", *(f"{n + 1} {name[2:]}" for n, name in enumerate(NAMES, start=1))]
    )
    page.send().finished()
    assert page.captions() == [A_BOAT, A_BOAT, A_STAR, A_STAR, A_BOAT]
    drop(page, NO_IMAGE)  # begins anew, beside the finished task
    expect(page["#send-text"]).to_have_text("Caption 1 image")
    page.send().finished()
    assert page.captions() == [NOT_AN_IMAGE]
    expect(page["#recent-list a"]).to_have_count(2)


def test_an_image_is_pasted(page: CaptionPage, context: BrowserContext, service: Service) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.open(f"{service.url}/")
    page.value(
        "navigator.clipboard.write([new ClipboardItem({ 'image/png': new Blob([new Uint8Array("
        f"{[*BOAT.read_bytes()]})], {{ type: 'image/png' }}) }})])"
    )
    page.page.keyboard.press("Control+V")
    expect(page["#grid .card"]).to_have_count(1)
    page.send().finished()
    assert page.captions() == [A_BOAT]


def test_a_phone_offers_its_camera(browser: Browser, service: Service) -> None:
    context = profile(browser, NARROW, dark=False, has_touch=True, is_mobile=True)
    page = CaptionPage(context).open(f"{service.url}/")
    expect(page["#choose-camera"]).to_be_visible()
    assert page["#camera"].get_attribute("capture") == "environment"
    with page.page.expect_file_chooser() as chooser:
        page["#choose-camera"].tap()
    chooser.value.set_files([BOAT])
    page.send().finished()
    assert page.captions() == [A_BOAT]
    assert not page.overflows()
    context.close()


def test_a_computer_does_not(page: CaptionPage, service: Service) -> None:
    page.open(f"{service.url}/")
    expect(page["#choose-files"]).to_be_visible()
    expect(page["#choose-camera"]).to_be_hidden()

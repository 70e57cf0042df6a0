"""Take the pictures of the web page in docs/images: `python -m tools.page_pictures`.

A service is started for it, and drawn scenes are captioned in Chromium.
"""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser

from tests.browser.pages import NARROW, WIDE, CaptionPage, chromium, profile
from tests.service import running
from tools.scenes.dataset import draw_sample

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SEED, SCENES, BROKEN = 77, 14, 2
SHOWN = 840  # the width in which a repository's page shows a picture


def main() -> None:
    """Write page.png and page-phone.png."""
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        files = scenes(Path(folder) / "scenes")
        with chromium() as browser:
            take(browser, service.url, files, "page.png", WIDE, dark=False)
            take(browser, service.url, files, "page-phone.png", NARROW, dark=True)


def scenes(folder: Path) -> list[Path]:
    """Write drawn scenes, and one file that is damaged."""
    folder.mkdir()
    files = [folder / f"scene_{number:02}.jpg" for number in range(SCENES)]
    for number, file in enumerate(files):
        file.write_bytes(draw_sample(SEED, number).jpeg[: 900 if number == BROKEN else None])
    return files


def take(
    browser: Browser, url: str, files: list[Path], name: str, width: int, *, dark: bool
) -> None:
    """Caption the files, and write a picture of the page."""
    context = profile(browser, width, dark=dark)
    page = CaptionPage(context).open(f"{url}/").wait_for_text("Ready", "#health").caption(*files)
    page.wait("document.querySelectorAll('.card .caption').length === " + str(SCENES - 1))
    page.wait("getComputedStyle(document.getElementById('toast')).visibility === 'hidden'")
    page.wait("[...document.images].every((image) => image.complete)")
    if dark:
        page["#batch-title"].evaluate("(title) => title.scrollIntoView()")
    picture = Image.open(BytesIO(page.page.screenshot())).convert("RGB")
    if width > SHOWN:
        height = round(picture.height * SHOWN / picture.width)
        picture = picture.resize((SHOWN, height), Image.Resampling.LANCZOS)
    picture.save(IMAGES / name, optimize=True)
    context.close()


if __name__ == "__main__":
    main()

"""Results beside images, in images and in an output file: what is written, kept and refused."""

import csv
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captiond.cli.captioning.command import caption_paths, failed_result
from captiond.cli.captioning.destinations import TextSidecar
from captiond.cli.captioning.picture_files import FoundFile
from captiond.cli.captioning.result_choices import SidecarKind, TextContent, XmpName
from captiond.cli.captioning.result_options import Given, result_options
from captiond.cli.formats import Format
from captiond.errors import SettingsError
from captiond.photofiles.replacement import remove_leftovers
from tests.conftest import png
from tests.unit.test_embedding import packet_by_pillow, picture, saved
from tests.unit.test_xmp import PERSONS, fields

NOBODY = 65534
FULL, STEM = XmpName.FULL, XmpName.STEM


def asked(
    *kinds: str,
    output: Path | None = None,
    formats: tuple[Format, ...] = (),
    embed: bool = False,
    text: str = "caption",
    prefix: str = "",
    suffix: str = "",
    xmp_name: XmpName = FULL,
    skip: bool = False,
    overwrite: bool = False,
    bom: bool = False,
) -> Given:
    return Given(
        formats=list(formats),
        bom=bom,
        output=output,
        sidecars=[SidecarKind(kind) for kind in kinds],
        embed=embed,
        text=TextSidecar(TextContent(text), prefix, suffix),
        xmp_name=xmp_name,
        skip=skip,
        overwrite=overwrite,
    )


class Captions:
    """A captioner whose captions are known, which counts the images that it was asked for."""

    def __init__(self, caption: str = "a boat", stop_after: int | None = None) -> None:
        self.caption = caption
        self.asked: list[str] = []
        self._stop_after = stop_after

    @contextmanager
    def __call__(self, files: list[FoundFile], _: Console) -> Iterator[Iterator[list[Any]]]:
        yield ([self._result(found)] for found in files)

    def _result(self, found: FoundFile) -> dict[str, Any]:
        if found.problem:
            return failed_result(found.path, found.problem, found.code)
        if len(self.asked) == self._stop_after:
            raise KeyboardInterrupt
        self.asked.append(found.path.name)
        tag = {"tag": "boat", "lemma": "boat", "category": "vehicle", "kind": "noun"}
        return {
            "image_path": str(found.path),
            "caption": self.caption,
            "tags": ["boat", "sea"],
            "error": None,
            "model": "m",
            "alt_text": "A boat.",
            "tag_details": [tag, {**tag, "tag": "sea", "category": "nature"}],
            "width": 1,
            "height": 1,
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images."""
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        (tmp_path / name).write_bytes(png(number))
    return tmp_path


def run(folder: Path, given: Given, captions: Captions | None = None) -> bool:
    return caption_paths([folder], captions or Captions(), result_options(given))


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ---------------------------------------------------------------- text and JSON


@pytest.mark.parametrize(
    ("text", "line"),
    [("caption", "a boat"), ("tags", "boat, sea"), ("both", "a boat, boat, sea")],
)
def test_text_files_have_one_line(folder: Path, text: str, line: str) -> None:
    assert run(folder, asked("txt", text=text, prefix="my style, ", suffix=" end"))
    assert (folder / "a.txt").read_text() == f"my style, {line} end\n"
    assert (folder / "c.txt").exists()


def test_json_files_have_the_whole_result(folder: Path) -> None:
    assert run(folder, asked("json"))
    result = json.loads((folder / "b.json").read_text())
    assert (result["image_path"], result["caption"]) == ("b.png", "a boat")
    assert [tag["category"] for tag in result["tag_details"]] == ["vehicle", "nature"]


def test_several_kinds_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, asked("txt", "json", "xmp", "txt", embed=True))
    written = printed(capsys)[0]["files"]
    names = [Path(file["path"]).name for file in written]
    assert names == ["a.png", "a.txt", "a.json", "a.png.xmp"]
    found = fields((folder / "a.png.xmp").read_bytes())
    assert found["alt"] == ["A boat."]
    assert (found["description"], found["tags_list"]) == (
        ["a boat"],
        ["vehicle/boat", "nature/sea"],
    )


def test_a_new_file_has_the_usual_mode(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        run(folder, asked("txt"))
    finally:
        os.umask(old)
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------- what is there already


def test_results_that_are_there_stop_the_command_before_any_work(folder: Path) -> None:
    (folder / "b.txt").write_text("by hand")
    captions = Captions()
    with pytest.raises(SettingsError, match=r"1 of 3 images .* --skip-existing .* --overwrite"):
        run(folder, asked("txt"), captions)
    assert captions.asked == []
    assert not (folder / "a.txt").exists()


@pytest.mark.parametrize(("kind", "name"), [("txt", "b.txt"), ("json", "b.json")])
def test_skipping_and_overwriting(folder: Path, kind: str, name: str) -> None:
    run(folder, asked(kind), Captions("first"))
    (folder / "a.png").with_suffix(f".{kind}").unlink()
    captions = Captions("second")
    assert run(folder, asked(kind, skip=True), captions)
    assert captions.asked == ["a.png"]
    assert "first" in (folder / name).read_text()
    assert run(folder, asked(kind, overwrite=True), Captions("third"))
    assert "third" in (folder / name).read_text()


def test_a_file_that_is_there_is_kept_if_another_one_is_missing(folder: Path) -> None:
    (folder / "a.txt").write_text("by hand")
    run(folder, asked("txt", "json", skip=True))
    assert (folder / "a.txt").read_text() == "by hand"
    assert (folder / "a.json").exists()


def test_nothing_to_do_needs_no_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, asked("txt"))
    capsys.readouterr()

    def no_model(*_: object) -> Any:
        raise AssertionError("the model was loaded")

    assert caption_paths([folder], no_model, result_options(asked("txt", skip=True)))
    assert capsys.readouterr().err == "captiond: all 3 images have their results already\n"


def test_json_of_other_programs_is_never_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.json").write_text('{"title": "b", "photoTakenTime": {}}')
    assert not run(folder, asked("json", overwrite=True))
    assert "photoTakenTime" in (folder / "b.json").read_text()
    errors = [result["code"] for result in printed(capsys) if result["error"]]
    assert errors == ["file_not_written"]


def test_images_are_never_taken_for_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image may have any name. As its own sidecar, it would be lost."""
    (folder / "d.txt").write_bytes(content := png(4))
    (folder / "e.png").write_bytes(png(5))
    (folder / "e.txt").write_bytes(png(6))
    assert not run(folder, asked("txt", overwrite=True))
    assert (folder / "d.txt").read_bytes() == content
    assert (folder / "e.txt").read_bytes() == png(6)
    bad = {Path(each["image_path"]).name for each in printed(capsys) if each["error"]}
    assert bad == {"d.txt", "e.png", "e.txt"}


def test_images_of_the_same_name_do_not_share_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.webp").write_bytes(saved("WEBP"))
    assert not run(folder, asked("txt", "xmp"))
    (bad,) = (each for each in printed(capsys) if each["error"])
    assert bad["image_path"].endswith("a.webp")
    assert "a.png; rename" in bad["error"]


# ---------------------------------------------------------------- XMP files


def test_an_xmp_file_of_either_name_is_used(folder: Path) -> None:
    (folder / "a.xmp").write_bytes(PERSONS)
    (folder / "b.png.xmp").write_bytes(PERSONS)
    assert run(folder, asked("xmp"))
    for name in ("a.xmp", "b.png.xmp"):
        found = fields((folder / name).read_bytes())
        assert found["description"] == ["Unser Boot"]
        assert {"Holiday", "sea"} <= set(found["subject"])
    assert not (folder / "a.png.xmp").exists()
    assert (folder / "c.png.xmp").exists()


def test_the_name_of_a_new_xmp_file_can_be_chosen(folder: Path) -> None:
    (folder / "b.cr3").write_bytes(b"raw")
    (folder / "b.xmp").write_bytes(PERSONS)
    run(folder, asked("xmp", xmp_name=STEM))
    assert (folder / "a.xmp").exists()
    assert (folder / "b.png.xmp").exists(), "b.xmp belongs to b.cr3"
    assert (folder / "b.xmp").read_bytes() == PERSONS


def test_xmp_that_a_person_made_is_no_result_yet(folder: Path) -> None:
    (folder / "a.xmp").write_bytes(PERSONS)
    captions = Captions()
    assert run(folder, asked("xmp", skip=True), captions)
    assert captions.asked == ["a.png", "b.png", "c.png"]
    again = Captions()
    assert run(folder, asked("xmp", skip=True), again)
    assert again.asked == []


def test_tags_in_the_image_are_in_its_xmp_file_too(folder: Path) -> None:
    (folder / "d.jpg").write_bytes(saved("JPEG", xmp=PERSONS))
    run(folder, asked("xmp"))
    found = fields((folder / "d.jpg.xmp").read_bytes())
    assert found["subject"] == ["Holiday", "Boat", "sea"]
    assert found["tags_list"] == ["Things/Boat", "Holiday", "nature/sea"]
    assert found["description"] == [], "that in the image would be hidden"


def test_a_broken_xmp_file_is_reported_and_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.png.xmp").write_bytes(b"<x>")
    captions = Captions()
    assert not run(folder, asked("xmp", overwrite=True), captions)
    assert captions.asked == ["a.png", "c.png"], "the image is not captioned in vain"
    assert (folder / "b.png.xmp").read_bytes() == b"<x>"
    (bad,) = (each for each in printed(capsys) if each["error"])
    assert bad["code"] == "metadata_unreadable"


@pytest.mark.parametrize("kind", ["txt", "json", "xmp"])
def test_a_pipe_in_the_place_of_a_sidecar_is_not_opened(folder: Path, kind: str) -> None:
    name = {"txt": "a.txt", "json": "a.json", "xmp": "a.png.xmp"}[kind]
    os.mkfifo(folder / name)
    assert not run(folder, asked(kind, overwrite=True), captions := Captions())
    assert "a.png" not in captions.asked
    assert (folder / name).is_fifo()


# ---------------------------------------------------------------- in the image


def test_embedding_keeps_times_mode_and_links(folder: Path) -> None:
    image = folder / "a.png"
    image.chmod(0o640)
    os.utime(image, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    (folder / "z.png").symlink_to(image)
    before = image.stat()
    assert caption_paths([folder / "z.png"], Captions(), result_options(asked(embed=True)))
    after = image.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_size > before.st_size
    assert (folder / "z.png").is_symlink()
    assert fields(packet_by_pillow(image.read_bytes()))["description"] == ["a boat"]
    assert not list(folder.glob(".captiond-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_embedding_keeps_the_owner(folder: Path) -> None:
    os.chown(folder / "a.png", NOBODY, NOBODY)
    run(folder, asked(embed=True))
    status = (folder / "a.png").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)


def test_types_without_metadata_are_reported_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "d.gif").write_bytes(saved("GIF"))
    captions = Captions()
    assert not run(folder, asked(embed=True), captions)
    assert "d.gif" not in captions.asked
    (bad,) = (each for each in printed(capsys) if each["error"])
    assert bad["code"] == "no_place_for_metadata"
    assert bad["error"].startswith("captiond cannot write into files of the type gif; ")


def test_what_a_kill_has_left_behind_is_removed_by_the_next_run(folder: Path) -> None:
    names = [".captiond-0123456789abcdef", ".captiond-0123456789abcdef.png", ".captiond-notes"]
    for name in names:
        (folder / name).write_bytes(b"x")
    remove_leftovers(folder, time.time())
    assert (folder / names[0]).exists(), "it may be in use"
    remove_leftovers(folder, time.time() + 7200)
    assert [name for name in names if (folder / name).exists()] == names[1:]


def test_an_image_that_changes_meanwhile_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = folder / "a.png"
    edited = saved("PNG", picture("L"))
    genuine = os.fsync

    def edit_meanwhile(descriptor: int) -> None:
        genuine(descriptor)
        image.write_bytes(edited)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", edit_meanwhile)
        assert not caption_paths([image], Captions(), result_options(asked(embed=True)))
    assert image.read_bytes() == edited
    assert "changed it meanwhile" in printed(capsys)[0]["error"]
    assert not list(folder.glob(".captiond-*"))


def test_a_folder_that_may_not_be_written_to_is_reported_before_any_work(folder: Path) -> None:
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        for path in (folder, *folder.parents[:3]):
            path.chmod(path.stat().st_mode | 0o055)
        os.seteuid(NOBODY)
    captions = Captions()
    try:
        complete = run(folder, asked("txt"), captions)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
    assert not complete
    assert captions.asked == []


# ---------------------------------------------------------------- output files

FORMATS = pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv"])


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the results in an output file."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [*csv.DictReader(file)]
    text = path.read_text()
    parsed: list[dict[str, Any]] = (
        json.loads(text)
        if path.suffix == ".json"
        else [json.loads(line) for line in text.splitlines()]
    )
    return parsed


@FORMATS
def test_the_extension_decides_the_format(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = folder / "results" / name
    out.parent.mkdir()
    assert run(folder, asked(output=out))
    assert [Path(row["image_path"]).name for row in rows(out)] == ["a.png", "b.png", "c.png"]
    assert capsys.readouterr() == ("", "")


@FORMATS
def test_a_stopped_run_continues_without_captioning_anything_twice(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = folder / name
    with pytest.raises(KeyboardInterrupt):
        run(folder, asked(output=out), Captions(stop_after=2))
    said = capsys.readouterr().err
    assert said == (
        "captiond: stopped; 2 of 3 images have their results; the same command with "
        "--skip-existing does the others\n"
    )
    with pytest.raises(SettingsError, match="exists; --skip-existing continues it"):
        run(folder, asked(output=out))
    captions = Captions("later")
    assert run(folder, asked(output=out, skip=True), captions)
    assert captions.asked == ["c.png"]
    assert [row["caption"] for row in rows(out)] == ["a boat", "a boat", "later"]


@FORMATS
def test_an_image_that_is_captioned_again_for_its_sidecar_is_in_the_output_once(
    folder: Path, name: str
) -> None:
    out = folder / name
    run(folder, asked("txt", output=out))
    (folder / "b.txt").unlink()
    captions = Captions("later")
    assert run(folder, asked("txt", output=out, skip=True), captions)
    assert captions.asked == ["b.png"]
    found = {Path(row["image_path"]).name: row["caption"] for row in rows(out)}
    assert found == {"a.png": "a boat", "b.png": "later", "c.png": "a boat"}
    assert len(rows(out)) == 3


@pytest.mark.parametrize(("skip", "overwrite"), [(False, False), (True, False), (False, True)])
def test_a_pipe_is_no_output_file(folder: Path, skip: bool, overwrite: bool) -> None:
    """It would be read for ever, or replaced by a file, as /dev/null for root."""
    out = folder / "pipe.csv"
    os.mkfifo(out)
    with pytest.raises(SettingsError, match="this is not a file"):
        run(folder, asked(output=out, skip=skip, overwrite=overwrite))
    assert out.is_fifo()


@FORMATS
def test_a_killed_run_continues_too(folder: Path, name: str) -> None:
    """A kill leaves a part of a line, and an array without its end."""
    out = folder / name
    run(folder, asked(output=out))
    content = out.read_bytes()
    end = content.index(b"c.png") + 3
    out.write_bytes(content[:end])
    captions = Captions()
    assert run(folder, asked(output=out, skip=True), captions)
    assert captions.asked == ["c.png"]
    assert out.read_bytes() == content


@FORMATS
def test_images_that_failed_are_tried_again(folder: Path, name: str) -> None:
    out = folder / name
    os.mkfifo(folder / "b.jpg")
    assert not run(folder, asked(output=out))
    assert len(rows(out)) == 4
    (folder / "b.jpg").unlink()
    (folder / "b.jpg").write_bytes(saved("JPEG"))
    captions = Captions()
    assert run(folder, asked(output=out, skip=True), captions)
    assert captions.asked == ["b.jpg"]
    assert len(rows(out)) == 4


@FORMATS
def test_names_that_a_spreadsheet_or_utf8_cannot_take_are_known_again(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for odd in (b"=1+1.png", b"caf\xe9.png", b'two\nlines, "quoted".png'):
        Path(os.fsdecode(odd)).write_bytes(png(1))
    paths = sorted(Path().iterdir())
    out = tmp_path / "out" / name
    out.parent.mkdir()
    assert caption_paths(paths, Captions(), result_options(asked(output=out)))
    again = Captions()
    assert caption_paths(paths, again, result_options(asked(output=out, skip=True)))
    assert again.asked == []


def test_errors_are_printed_beside_an_output_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert not run(folder, asked(output=folder / "out.csv"))
    assert capsys.readouterr().err == (
        f"captiond: {folder}/pipe.jpg: not a file but a named pipe\n"
    )


def test_csv_can_begin_with_a_byte_order_mark(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    run(folder, asked(formats=(Format.CSV,), bom=True))
    assert capsysbinary.readouterr().out.startswith(b"\xef\xbb\xbfimage_path,")
    out = folder / "out.csv"
    run(folder, asked(output=out, bom=True))
    run(folder, asked(output=out, skip=True))
    assert out.read_bytes().startswith(b"\xef\xbb\xbfimage_path,")
    assert out.read_bytes().count(b"\xef\xbb\xbf") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("out.jsonl", "some text\n{}\n"), ("out.csv", "a,b\n1,2\n"), ("out.json", '{"a": 1}\n[]')],
)
def test_a_file_that_is_no_output_is_not_continued(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(SettingsError, match="give another --output, or --overwrite"):
        run(folder, asked(output=folder / name, skip=True))
    assert (folder / name).read_text() == content


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (asked("txt", skip=True, overwrite=True), "choose one of"),
        (asked(skip=True), "need --output"),
        (asked(overwrite=True), "need --output"),
        (asked("xmp", prefix="x"), "need --sidecar txt"),
        (asked("txt", xmp_name=STEM), "needs --sidecar xmp"),
        (asked(bom=True), "--bom needs --csv"),
        (asked(output=Path("x.json"), bom=True), "--bom needs --csv"),
        (asked(formats=(Format.CSV, Format.JSON)), "choose one of --csv, --json"),
        (asked(output=Path("/nowhere/x.json")), "cannot write to /nowhere"),
    ],
    ids=["both", "skip", "overwrite", "prefix", "xmp name", "bom", "bom of json", "two", "nowhere"],
)
def test_flags_that_do_not_fit_are_refused(given: Given, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        result_options(given)

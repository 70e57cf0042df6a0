"""Results beside images and in images: what is written, kept and refused."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from captiond.cli.captioning.command import caption_paths
from captiond.cli.captioning.destinations import Namesakes
from captiond.cli.captioning.result_options import result_options
from captiond.errors import SettingsError
from captiond.photofiles.replacement import remove_leftovers
from tests.conftest import png
from tests.unit.caption_runs import NOBODY, STEM, Captions, asked, printed, run, three_images
from tests.unit.test_embedding import packet_by_pillow, picture, saved
from tests.unit.test_xmp import PERSONS, fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_images(tmp_path)


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


@pytest.mark.parametrize(
    "content", ['{"title": "b", "photoTakenTime": {}}', "[" * 100_000], ids=["object", "deep"]
)
def test_json_of_other_programs_is_never_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (folder / "b.json").write_text(content)
    assert not run(folder, asked("json", overwrite=True))
    assert (folder / "b.json").read_text() == content
    errors = [result["code"] for result in printed(capsys) if result["error"]]
    assert errors == ["file_not_written"]


def test_a_text_about_a_bmx_is_no_bmp(folder: Path) -> None:
    for caption in ("BMX bikes on a ramp", "BM"):
        assert run(folder, asked("txt", overwrite=True), Captions(caption))
        assert (folder / "a.txt").read_text() == f"{caption}\n"


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


def test_two_names_of_a_folder_do_not_hide_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.jpg").write_bytes(saved("JPEG"))
    monkeypatch.chdir(folder)
    images = [Path("a.png"), folder / "a.jpg", folder / "a.png"]
    assert not caption_paths(images, Captions(), result_options(asked("txt")))
    errors = [result["error"] for result in printed(capsys)]
    assert errors[0] is None
    assert errors[1] is not None
    assert "this is the place for the result of a.png" in errors[1]
    assert errors[2] is None, "it is the first one once more"


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


@pytest.mark.parametrize("kind", ["txt", "json", "xmp", "embed"])
def test_entries_that_are_no_files_get_no_result(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (folder / "self.png").symlink_to("self.png")
    (folder / "gone.png").symlink_to("/nowhere/at/all.png")
    os.mkfifo(folder / "pipe.png")
    wanted = asked(embed=True) if kind == "embed" else asked(kind)
    assert not run(folder, wanted)
    bad = {Path(each["image_path"]).name: each["error"] for each in printed(capsys)}
    assert bad.pop("self.png") == "a link that leads back to itself"
    assert "which does not exist" in bad.pop("gone.png")
    assert bad.pop("pipe.png") == "not a file but a named pipe"
    assert set(bad.values()) == {None}
    beside = {path.name for path in folder.iterdir() if path.stem in {"self", "gone", "pipe"}}
    assert beside == {"self.png", "gone.png", "pipe.png"}


def test_a_folder_that_cannot_be_listed_may_have_others_of_the_name(folder: Path) -> None:
    assert Namesakes().is_alone(folder / "a.png")
    assert not Namesakes().is_alone(folder / "a.png" / "b.png")


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


@pytest.mark.parametrize("kind", ["txt", "json", "xmp"])
def test_a_sidecar_whose_name_would_be_too_long_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / f"{'a' * 251}.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(1))
    assert run(tmp_path, asked(kind)) is (kind == "txt")
    long, _ = printed(capsys)
    assert long["error"] is None or "File name too long" in long["error"]
    assert len(list(tmp_path.glob(f"b.*{kind}"))) == 1


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


def test_what_can_be_written_is_written_and_the_rest_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GIF has no place for metadata, but a text file can lie beside it."""
    (folder / "d.gif").write_bytes(saved("GIF"))
    assert not run(folder, asked("txt", embed=True))
    assert (folder / "d.txt").read_text() == "a boat\n"
    *good, bad = printed(capsys)
    assert [len(each["files"]) for each in good] == [2, 2, 2]
    assert (bad["caption"], bad["code"]) == ("a boat", "no_place_for_metadata")
    assert [Path(each["path"]).name for each in bad["files"]] == ["d.txt"]
    # A later run reports it again, without any work.
    captions = Captions()
    assert not run(folder, asked("txt", embed=True, skip=True), captions)
    assert captions.asked == []
    (again,) = printed(capsys)
    assert (again["error"], again["code"]) == (bad["error"], bad["code"])


def test_each_destination_is_tried_and_each_error_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.png", "c.png"):
        (folder / name).unlink()
    (folder / "a.json").mkdir()
    (folder / "a.png.xmp").write_text("no XMP")
    assert not run(folder, asked("json", "xmp", "txt"))
    (result,) = printed(capsys)
    assert [Path(each["path"]).name for each in result["files"]] == ["a.txt"]
    first, second = result["error"].split("; ", 1)
    assert first.startswith(f"{folder / 'a.json'}: ")
    assert f"{folder / 'a.png.xmp'}: " in second
    assert result["code"] == "file_not_written"


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

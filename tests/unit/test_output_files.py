"""Results in an output file, which a later run continues, and flags that do not fit together."""

import csv
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from captiond.cli.captioning.command import caption_paths
from captiond.cli.captioning.result_options import Given, result_options
from captiond.cli.export_command import format_of, opened_output
from captiond.cli.formats import Format, format_by_name
from captiond.cli.streams import OutputFailed
from captiond.errors import SettingsError
from captiond.notation.csvrows import csv_header
from captiond.photofiles.metadata_errors import NotWritten
from tests.conftest import png
from tests.unit.caption_runs import STEM, Captions, asked, run, three_images
from tests.unit.test_embedding import saved


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_images(tmp_path)


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


@FORMATS
def test_an_image_whose_file_cannot_be_written_is_in_the_output_once(
    folder: Path, name: str
) -> None:
    """The caption of an earlier run stays, and so does that of a result with an error."""
    out, image = folder / name, folder / "d.gif"
    image.write_bytes(saved("GIF"))
    first = caption_paths([image], Captions(), result_options(asked(output=out)))
    assert first
    again = result_options(asked(output=out, embed=True, skip=True))
    assert not caption_paths([image], Captions("later"), again)
    assert [(row["caption"], row["error"] or None) for row in rows(out)] == [("a boat", None)]
    whole = result_options(asked(output=out, embed=True, overwrite=True))
    assert not caption_paths([image], Captions("later"), whole)
    ((caption, error),) = [(row["caption"], row["error"]) for row in rows(out)]
    assert caption == "later"
    assert "captiond cannot write into files of the type gif" in error


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
    [
        ("out.jsonl", "some text\n{}\n"),
        ("out.jsonl", f"{'[' * 100_000}\n"),
        ("out.jsonl", '{"image_path": [], "error": null}\n'),
        ("out.csv", "a,b\n1,2\n"),
        ("out.csv", f'{csv_header().strip()}\n"{"x" * 200_000}'),
        ("out.json", '{"a": 1}\n[]'),
    ],
    ids=["text", "deep", "no name", "columns", "no csv", "object"],
)
def test_a_file_that_is_no_output_is_not_continued(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(SettingsError, match="give another --output, or --overwrite"):
        run(folder, asked(output=folder / name, skip=True))
    assert (folder / name).read_bytes() == content.encode()


def test_a_name_that_is_too_long_is_told(folder: Path) -> None:
    with pytest.raises(NotWritten, match="File name too long"):
        run(folder, asked(output=folder / ("a" * 256)))


def test_a_sidecar_does_not_replace_the_output_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of all images after that would be lost with it."""
    monkeypatch.chdir(folder)
    assert not run(folder, asked("json", "txt", output=Path("b.json")))
    errors = [row["error"] for row in rows(folder / "b.json")]
    assert errors == [
        None,
        f"{folder}/b.json: this is the output file; choose another --output",
        None,
    ]
    assert {path.name for path in folder.glob("*.txt")} == {"a.txt", "b.txt", "c.txt"}


def test_an_image_is_never_replaced_by_results(folder: Path) -> None:
    """A shell makes `--output a.png b.png c.png` of `--output *.png`."""
    before = (folder / "a.png").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(SettingsError, match=r"a\.png: this is an image"):
            run(folder, asked(output=folder / "a.png", overwrite=overwrite))
    assert (folder / "a.png").read_bytes() == before


@FORMATS
def test_a_full_disk_is_told_in_one_line(folder: Path, name: str) -> None:
    out = folder / name
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OutputFailed, match=f"{name}: File too large"):
            run(folder, asked(output=out), Captions("a boat " * 40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    captions = Captions()
    assert run(folder, asked(output=out, skip=True), captions)
    assert len(rows(out)) == 3


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (asked("txt", skip=True, overwrite=True), "choose one of"),
        (asked(skip=True), "need --output"),
        (asked(overwrite=True), "need --output"),
        (asked("xmp", prefix="x"), "need --sidecar txt"),
        (asked("txt", prefix=os.fsdecode(b"\xe9")), "--prefix: must be UTF-8"),
        (asked("txt", suffix=os.fsdecode(b"\xe9")), "--suffix: must be UTF-8"),
        (asked("txt", xmp_name=STEM), "needs --sidecar xmp"),
        (asked(bom=True), "--bom needs --csv"),
        (asked(output=Path("x.json"), bom=True), "--bom needs --csv"),
        (asked(formats=(Format.CSV, Format.JSON)), "choose one of --csv, --json"),
        (asked(output=Path("/nowhere/x.json")), "cannot write to /nowhere"),
    ],
    ids=[
        "both",
        "skip",
        "overwrite",
        "prefix",
        "latin-1",
        "suffix",
        "xmp name",
        "bom",
        "bom of json",
        "two",
        "nowhere",
    ],
)
def test_flags_that_do_not_fit_are_refused(given: Given, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        result_options(given)


def test_a_dash_is_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, asked(output=Path("-")))
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SettingsError, match="need --output"):
        result_options(asked(output=Path("-"), skip=True))
    with opened_output(Path("-")) as out:  # of captiond export
        out.write("a row")
    assert capsys.readouterr().out == "a row"


def test_an_extension_of_another_format_needs_a_flag(folder: Path) -> None:
    out = folder / "results" / "out.XLSX"
    out.parent.mkdir()
    with pytest.raises(SettingsError, match=r"out\.XLSX: \.xlsx is no format of captiond; .*--csv"):
        result_options(asked(output=out))
    assert run(folder, asked(output=out, formats=(Format.CSV,)))
    assert out.read_text().startswith("image_path,")
    for name, expected in (("a.ndjson", Format.JSONL), ("a", Format.JSONL), ("a.1", Format.JSONL)):
        assert format_by_name(Path(name)) is format_of([], Path(name)) is expected

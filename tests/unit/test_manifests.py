"""The addresses of images: folders, buckets, and lists of addresses."""

import csv
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer
from pyarrow.parquet import write_table

from captiond.cli import ray_command
from captiond.errors import (
    FileTooLarge,
    ReferenceUnavailable,
    ReferenceUnreadable,
    SettingsError,
    StorageFailed,
)
from captiond.references import addresses as references
from captiond.references import manifests, shard_files
from captiond.references.addresses import ReferenceReader, absolute_place, bucket_store
from captiond.references.manifests import addresses
from captiond.references.result_rows import FIELDS
from captiond.references.shard_files import ShardFiles, part_name
from captiond.settings.upload_settings import UploadSettings
from captiond.spool.bucket import open_bucket
from captiond.spool.bucket_retries import RETRIES
from captiond.spool.plain_http import VARIABLES
from captiond.store.shards import Form
from tests.commands import command

OBJECTS = 1100  # more than a page of a listing


def write_list(path: Path, column: str, values: list[str]) -> None:
    match path.suffix:
        case ".parquet":
            write_table(pa.table({column: values, "other": [0] * len(values)}), path)
        case ".csv":
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerows([["other", column], *(["x", value] for value in values)])
        case ".jsonl":
            lines = [json.dumps({column: value}) for value in values]
            path.write_text("\n".join([*lines, ""]))
        case _:
            path.write_text("\n".join(values))


def test_images_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [
        "b.JPG",
        "a/2.png",
        "a/10.webp",
        ".hidden.png",
        ".trash/1.png",
        "@eaDir/1.png",
        "x.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "itself.png").symlink_to("itself.png")
    found = [Path(each).relative_to(tmp_path) for each in addresses(str(tmp_path))]
    assert [*map(str, found)] == ["a/10.webp", "a/2.png", "b.JPG"]
    assert list(addresses(str(tmp_path / "b.JPG"))) == [str(tmp_path / "b.JPG")]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".txt"])
def test_a_list_has_addresses_that_are_relative_to_its_folder(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    write_list(path, "file", ["a b.png", "/c/ä.jpg", "s3://bucket/d%20e.png"])
    expected = [str(tmp_path / "a b.png"), "/c/ä.jpg", "s3://bucket/d%20e.png"]
    assert list(addresses(str(path), "file")) == expected
    if suffix != ".txt":
        with pytest.raises(SettingsError, match=r"no column uri, only .*file"):
            list(addresses(str(path)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none", None),
        ("none.csv", None),
        ("bad.jsonl", b'{"uri": "a"}\n{"uri": 1}\n'),
        ("bad.parquet", b"PAR1"),
        ("bad.txt", b"\xff\xfe\x00"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=name):
        list(addresses(str(tmp_path / name)))


def test_json_that_python_cannot_read_is_named_with_its_line(tmp_path: Path) -> None:
    for line in ('{"uri": "b", "id": ' + "1" * 5000 + "}", "[" * 100_000):
        (tmp_path / "odd.jsonl").write_text(f'"a"\n{line}\n')
        listed = addresses(str(tmp_path / "odd.jsonl"))
        assert next(listed) == str(tmp_path / "a")
        with pytest.raises(SettingsError, match=r"odd\.jsonl: line 2: not JSON"):
            next(listed)


def test_a_parquet_file_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path, stored = tmp_path / "damaged.parquet", struct.pack("<I", 1) + b"a"
    write_table(pa.table({"uri": ["a"] * 9}), path, compression="NONE", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(stored, b"\xff\xff\xff\x7fa", 1))
    with pytest.raises(SettingsError, match=r"damaged\.parquet: "):
        list(addresses(str(path)))


def test_a_column_of_bytes_has_addresses_and_one_of_numbers_has_none(tmp_path: Path) -> None:
    write_table(pa.table({"uri": ["/ä".encode(), None, b"/\xe9"]}), tmp_path / "bytes.parquet")
    assert list(addresses(str(tmp_path / "bytes.parquet"))) == ["/ä", "/\udce9"]
    write_table(pa.table({"uri": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(SettingsError, match=r"numbers\.parquet: uri is not a text"):
        list(addresses(str(tmp_path / "numbers.parquet")))


def test_a_place_has_one_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "a" / "out")
    for name in ("a/out", "./a/out/", "link/../out", f"{tmp_path}/a/b/../out", f"file://{out}"):
        assert absolute_place(name) == out
    assert absolute_place("s3://bucket/out/") == "s3://bucket/out"
    for url in ("http://example.org/photos", "file://[a"):
        with pytest.raises(SettingsError) as raised:
            absolute_place(url)
        assert str(raised.value).startswith(f"{url}: ")


def test_a_folder_within_a_source_is_named_if_it_cannot_be_read() -> None:
    error = PermissionError(13, "Permission denied", "/photos/private")
    assert manifests.problem_with("/photos", error) == "/photos/private: Permission denied"


def nothing_is_installed(_name: str) -> None:
    return None


def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (manifests, references, shard_files, ray_command):
        monkeypatch.setattr(module, "find_spec", nothing_is_installed)
    bucket_store.cache_clear()
    with pytest.raises(SettingsError, match=r"pip install 'captiond\[s3\]'"):
        list(addresses("s3://bucket/photos"))
    with pytest.raises(SettingsError, match=r"pip install 'captiond\[parquet\]'"):
        list(addresses(str(tmp_path / "list.parquet")))
    with pytest.raises(SettingsError, match=r"pip install 'captiond\[parquet\]'"):
        ShardFiles(str(tmp_path), "parquet")
    with pytest.raises(SettingsError, match=r"pip install 'captiond\[s3\]'"):
        ShardFiles("s3://bucket/results", "jsonl")
    result = command("ray", "photos", "captions", cwd=tmp_path)
    assert (result.returncode, "pip install 'captiond[ray]'" in result.stderr) == (2, True)


# ---------------------------------------------------------------- object storage


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server for S3 on this machine."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket_store.cache_clear()
        boto3.client("s3").create_bucket(Bucket="photos")
        yield "s3://photos"
        bucket_store.cache_clear()
    server.stop()


def test_objects_beneath_a_prefix_are_listed_page_by_page(bucket: str) -> None:
    store = bucket_store(bucket)
    for number in range(OBJECTS):
        store.put(f"all/{number:05}.jpg", b"")
    hidden = ("all/.hidden.jpg", "all/.trash/1.jpg", "all/a/@eaDir/1.jpg")
    for name in (*hidden, "all/notes.txt", "other/1.jpg"):
        store.put(name, b"")
    expected = [f"{bucket}/all/{number:05}.jpg" for number in range(OBJECTS)]
    assert list(addresses(f"{bucket}/all")) == expected
    assert list(addresses(f"{bucket}/other/1.jpg")) == [f"{bucket}/other/1.jpg"]
    assert list(addresses(f"{bucket}/all/.trash")) == [f"{bucket}/all/.trash/1.jpg"]
    with pytest.raises(SettingsError, match="s3://missing/all"):
        list(addresses("s3://missing/all"))


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_of_an_endpoint_may_be_plain_http(
    bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(name, endpoint)
    bucket_store.cache_clear()
    bucket_store(bucket).put("plain.jpg", b"")
    uploads = open_bucket(UploadSettings(url=bucket))
    assert "plain.jpg" in {each.name for each in uploads.objects()}
    bucket_store.cache_clear()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".txt"])
def test_a_list_may_be_an_object(bucket: str, tmp_path: Path, suffix: str) -> None:
    values = [f"s3://elsewhere/{number}.png" for number in range(30_000)]
    write_list(tmp_path / f"list{suffix}", "uri", values)
    bucket_store(bucket).put(f"lists/1{suffix}", (tmp_path / f"list{suffix}").read_bytes())
    assert list(addresses(f"{bucket}/lists/1{suffix}")) == values


def test_paths_of_a_list_in_a_bucket_are_relative_to_its_folder(bucket: str) -> None:
    values = ["a b.png", "./c/ü.png", "../d.png", "/e.png"]
    for place in ("lists/", ""):
        bucket_store(bucket).put(f"{place}names.txt", "\n".join(values).encode())
    expected = ["lists/a b.png", "lists/c/ü.png", "d.png"]
    listed = list(addresses(f"{bucket}/lists/names.txt"))
    assert listed == [*(f"{bucket}/{key}" for key in expected), "/e.png"]
    assert next(addresses(f"{bucket}/names.txt")) == f"{bucket}/a b.png"


@pytest.mark.anyio
async def test_an_address_that_nothing_can_have_is_an_error_of_its_image(bucket: str) -> None:
    reader = ReferenceReader(5)
    keys = ("a//b.png", "../a.png", "./a.png", "\ud800.png", "a\0.png")
    for address in (*(f"{bucket}/{key}" for key in keys), "s3://[a/b.png", "az://nobody/a.png"):
        with pytest.raises(ReferenceUnreadable) as raised:
            await reader.read_object(address)
        assert "\n" not in str(raised.value)
    for address in ("file://[a/b.png", "/a\0.png", "/\ud800.png", "ftp://a/b.png"):
        with pytest.raises(ReferenceUnreadable):
            reader.read_file(address)


@pytest.mark.parametrize("source", ["s3://[a", "s3://photos/a//b/", "file://[a", "/a\0b"])
def test_a_source_that_nothing_can_be_is_named(bucket: str, source: str) -> None:
    with pytest.raises(SettingsError) as raised:
        list(addresses(source))
    assert source in str(raised.value)


@pytest.mark.anyio
async def test_objects_are_read_by_their_addresses(bucket: str) -> None:
    bucket_store(bucket).put("a b/ü%20.png", b"12345")
    assert await ReferenceReader(5).read_object(f"{bucket}/a b/ü%20.png") == b"12345"
    with pytest.raises(FileTooLarge):
        await ReferenceReader(4).read_object(f"{bucket}/a b/ü%20.png")
    with pytest.raises(ReferenceUnreadable, match="no such object"):
        await ReferenceReader(5).read_object(f"{bucket}/none.png")


@pytest.mark.anyio
async def test_a_storage_that_is_away_may_come_back(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the same for each image, without times and numbers of attempts."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(RETRIES, "max_retries", 0)
    with pytest.raises(ReferenceUnavailable, match=r"^Connection refused$"):
        await ReferenceReader(5).read_object("s3://another/1.png")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_shard_is_replaced_as_a_whole(bucket: str, tmp_path: Path, form: Form) -> None:
    empty = dict.fromkeys(FIELDS)
    rows = [{"uri": "ä", **empty, "tags": ["a"]}, {"uri": "b", **empty, "width": 640}]
    invalid = [{**rows[0], "uri": os.fsdecode(b"\xe9.png")}]
    for place in (str(tmp_path / "new" / "results"), f"{bucket}/results"):
        files = ShardFiles(place, form)
        files.write(7, invalid)
        assert files.read(7)[0]["uri"] in {"\udce9.png", "\\udce9.png"}
        files.write(7, rows)
        assert files.read(7) == rows
        with pytest.raises(StorageFailed):
            files.read(8)
    names = [path.name for path in (tmp_path / "new" / "results").iterdir()]
    assert names == [f"part-0000007.{form}"]


def test_a_place_that_results_cannot_have_is_an_error(bucket: str) -> None:
    with pytest.raises(SettingsError, match=r"s3://\[a: "):
        ShardFiles("s3://[a/b", "jsonl")
    with pytest.raises(StorageFailed, match="photos/a//b: "):
        ShardFiles(f"{bucket}/a//b", "jsonl").write(0, [])


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_damaged_file_of_results_is_named(tmp_path: Path, form: Form) -> None:
    (tmp_path / f"part-0000007.{form}").write_bytes(b'{"uri": "a", ')
    with pytest.raises(StorageFailed, match=rf"part-0000007\.{form}: "):
        ShardFiles(str(tmp_path), form).read(7)


def test_what_a_killed_writer_of_a_shard_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """A writer of another shard may still be at work, so what it writes is left alone."""
    ours, others = (tmp_path / part_name(tmp_path / f"part-000000{n}.jsonl", "x") for n in (7, 8))
    ours.touch()
    others.touch()
    ShardFiles(str(tmp_path), "jsonl").write(7, [])
    assert {path.name for path in tmp_path.iterdir()} == {"part-0000007.jsonl", others.name}

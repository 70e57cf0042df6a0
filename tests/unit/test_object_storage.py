"""What object storage does to uploads: parts, failures, what is left over, and messages."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from captiond.errors import CaptiondError, NoSpace, SettingsError, SpoolError, StartupError
from captiond.settings.config import Settings
from captiond.settings.upload_settings import UploadSettings
from captiond.spool.bucket import PART_BYTES, Bucket, open_bucket
from captiond.spool.trial import try_storage
from captiond.spool.unavailable import StorageUnavailable
from tests.certificates import write_certificates
from tests.patience import PATIENCE
from tests.s3server import BUCKET, POLICIES, PREFIX, S3Server, s3_server
from tests.spools import home_in, stored
from tests.wire import Wire, wire

pytestmark = pytest.mark.anyio
LARGE = 2 * PART_BYTES + 1000
GROWTH = 100 * 1024 * 1024  # bytes that a process may grow by while it sends a large upload
# Sends 200 MB as the web process does, and prints by how much the most memory has grown.
SENDER = """
import asyncio, os, sys
from pathlib import Path
from captiond.spool.bucket import open_bucket
from captiond.spool.objects import ObjectSpool
from captiond.settings.upload_settings import UploadSettings

async def send(spool, pieces):
    writer = spool.writer("web0-a")
    writer.begin()
    for _ in range(pieces):
        writer.write(memoryview(os.urandom(1 << 20)))
        writer.flush()
    writer.end()
    await writer.commit()

def memory(name):
    (line,) = (each for each in open("/proc/self/status") if each.startswith(name))
    return int(line.split()[1]) * 1024

settings = UploadSettings.model_validate_json(sys.argv[1])
spool = ObjectSpool(open_bucket(settings), Path(sys.argv[2]))
asyncio.run(send(spool, 2))
Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted anew from here
before = memory("VmRSS")
asyncio.run(send(spool, 200))
print(memory("VmHWM") - before)
"""


@pytest.fixture
def server(s3: S3Server) -> Iterator[S3Server]:
    yield s3
    s3.clear()


@pytest.fixture
def line(server: S3Server) -> Iterator[Wire]:
    """A wire to the server."""
    with wire(server.endpoint) as made:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a few times, and soon."""
    moment = timedelta(milliseconds=1)
    patch = {"max_retries": 2, "backoff": {"init_backoff": moment, "max_backoff": moment}}
    monkeypatch.setattr("captiond.spool.bucket.RETRIES", patch)


def unfinished(server: S3Server) -> list[object]:
    """Return the objects of which there are only parts."""
    found: list[object] = server.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return found


async def test_a_large_upload_is_sent_in_parts_and_read_by_range(
    server: S3Server, line: Wire, tmp_path: Path
) -> None:
    home = home_in(tmp_path, server, endpoint=line.endpoint)
    contents = [os.urandom(LARGE - 1000), os.urandom(1000)]
    images = await stored(home.spool, *contents)
    assert line.requests == {"POST": 2, "PUT": 3}
    assert [home.spool.read(image) for image in images] == contents
    assert home.names() == {images[0].file}
    assert unfinished(server) == []
    assert list(home.folder.iterdir()) == []


async def test_a_small_upload_is_one_request_and_touches_no_disk(
    server: S3Server, line: Wire, tmp_path: Path
) -> None:
    home = home_in(tmp_path, server, endpoint=line.endpoint)
    home.folder.rmdir()
    writer = home.spool.writer("web0-a", durable=True)
    writer.begin()
    writer.write(memoryview(b"small"))
    image = writer.end()
    await writer.commit()
    assert line.requests == {"PUT": 1}
    assert home.spool.read(image) == b"small"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("503 SlowDown", StorageUnavailable),
        ("500 InternalError", StorageUnavailable),
        ("403 AccessDenied", StorageUnavailable),
        ("507 InsufficientStorage", NoSpace),
        ("403 QuotaExceeded", NoSpace),
    ],
)
@pytest.mark.parametrize("step", ["partNumber=2", "uploadId", "uploads"])
async def test_an_upload_that_fails_leaves_no_parts_behind(
    server: S3Server, line: Wire, tmp_path: Path, status: str, error: type[CaptiondError], step: str
) -> None:
    """It fails at its second part, at a request after the beginning, or at the beginning."""

    def fails(method: str, path: str) -> str | None:
        return status if method in {"PUT", "POST"} and step in path else None

    home = home_in(tmp_path, server, endpoint=line.endpoint)
    line.rule = fails
    with pytest.raises(error):
        await stored(home.spool, os.urandom(LARGE))
    assert home.names() == set()
    assert unfinished(server) == []
    assert list(home.folder.iterdir()) == []


async def test_a_storage_that_is_slow_is_asked_again(
    server: S3Server, line: Wire, tmp_path: Path
) -> None:
    refused: list[str] = []

    def twice(method: str, path: str) -> str | None:
        if method == "PUT" and len(refused) < 2:
            refused.append(path)
            return "503 SlowDown"
        return None

    line.rule = twice
    home = home_in(tmp_path, server, endpoint=line.endpoint)
    (image,) = await stored(home.spool, b"content")
    assert len(refused) == 2
    assert home.spool.read(image) == b"content"


async def test_what_cannot_be_reached_is_there_again_later(
    server: S3Server, line: Wire, tmp_path: Path
) -> None:
    home = home_in(tmp_path, server, endpoint=line.endpoint)
    (image,) = await stored(home.spool, b"content")
    line.cut()
    for attempt in (
        lambda: home.spool.read(image),
        home.spool.sizes,
        lambda: home.spool.sweep(set(), owner="web0-a"),
    ):
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            attempt()
    with pytest.raises(StorageUnavailable):
        await stored(home.spool, b"more")
    home.spool.remove([image.file])  # is logged, and left to the sweep
    line.repair()
    assert home.spool.read(image) == b"content"
    home.spool.remove([image.file])
    assert home.names() == set()


async def test_a_storage_that_does_not_answer_is_given_up(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and is silent, as a server does that hangs."""
    monkeypatch.setattr("captiond.spool.bucket.REQUEST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        home = home_in(tmp_path, server, endpoint=endpoint)
        for size in (10, LARGE):
            with pytest.raises(StorageUnavailable, match=f"at {endpoint} cannot be reached"):
                await stored(home.spool, bytes(size))
    assert list(home.folder.iterdir()) == []


def test_a_large_upload_is_never_whole_in_memory(server: S3Server, tmp_path: Path) -> None:
    settings = server.settings().model_dump(mode="json")
    settings["secret_access_key"] = server.keys.secret_access_key
    command = [sys.executable, "-c", SENDER, json.dumps(settings), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert int(result.stdout) < GROWTH
    sizes = [
        server.client.head_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")["ContentLength"]
        for name in server.names()
    ]
    assert sorted(sizes) == [2 << 20, 200 << 20]


def test_a_trial_leaves_nothing_behind(server: S3Server) -> None:
    try_storage(open_bucket(server.settings()))
    assert server.names() == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secret_access_key": "wrong"}, r"objects cannot be written \(SignatureDoesNotMatch\)"),
        ({"access_key_id": "wrong"}, r"objects cannot be written \(InvalidAccessKeyId\)"),
        ({"endpoint": "http://127.0.0.1:1"}, "at http://127.0.0.1:1 cannot be reached: Connection"),
        ({"endpoint": "http://no.invalid"}, "reached: failed to lookup.*check .uploads. endpoint"),
    ],
)
def test_a_trial_says_what_is_wrong_and_no_secret(
    server: S3Server, change: dict[str, str], message: str
) -> None:
    with pytest.raises(CaptiondError, match=message) as error:
        try_storage(open_bucket(server.settings(**change)))
    assert server.keys.secret_access_key not in str(error.value)
    assert "wrong" not in str(error.value)


def test_a_trial_without_rights(server: S3Server) -> None:
    keys = server.others
    others = {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key}
    with pytest.raises(StorageUnavailable, match=r"\(AccessDenied\); check the credentials, and"):
        try_storage(open_bucket(server.settings(**others)))


def test_a_trial_without_a_bucket(server: S3Server, line: Wire) -> None:
    line.rule = lambda method, path: "404 NoSuchBucket"
    with pytest.raises(StorageUnavailable, match="no such bucket; create it, or correct the URL"):
        try_storage(open_bucket(server.settings(endpoint=line.endpoint)))


def test_a_trial_with_the_right_to_write_only(server: S3Server, line: Wire) -> None:
    line.rule = lambda method, path: "403 AccessDenied" if method == "GET" else None
    with pytest.raises(StartupError, match=r"cannot be read \(AccessDenied\).*an object was"):
        try_storage(open_bucket(server.settings(endpoint=line.endpoint)))


def bucket_with(server: S3Server, **changes: object) -> Bucket:
    """Return the bucket with other credentials than those of the settings."""
    values = {"url": server.settings().url, "endpoint": server.endpoint, **changes}
    return open_bucket(UploadSettings.model_validate(values))


def test_credentials_come_from_a_file(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has precedence over variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    file = tmp_path / "credentials"
    file.write_text(
        "[other]\naws_access_key_id = x\n\n[default]\n"
        f"aws_access_key_id = {server.keys.access_key_id}\n"
        f"aws_secret_access_key = {server.keys.secret_access_key}\n"
    )
    try_storage(bucket_with(server, credentials=file))


def test_credentials_come_from_variables(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.keys.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.keys.secret_access_key)
    try_storage(bucket_with(server))


async def test_a_file_of_credentials_is_read_again(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is wrong for a while is reported in the log, and does no lasting harm."""
    monkeypatch.setattr("captiond.spool.access_keys.LIFETIME", timedelta(0))
    file = tmp_path / "credentials"

    def write(secret: str) -> None:
        key = server.keys.access_key_id
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    async def outcome_becomes(pattern: str) -> None:
        """Wait until writing has this outcome. obstore asks for a key ten times a second."""
        async with asyncio.timeout(PATIENCE):
            while not re.search(pattern, await outcome(bucket)):
                pass

    write("old")
    bucket = bucket_with(server, credentials=file)
    await outcome_becomes("SignatureDoesNotMatch")
    file.write_text("[other]")
    await outcome_becomes("no access key: .*has no aws_access_key_id")
    write(server.keys.secret_access_key)
    await outcome_becomes("^$")


async def outcome(bucket: Bucket) -> str:
    """Write an object, and return the error, or an empty text."""
    try:
        await bucket.put("web0-a/1", b"x", 1)
    except StorageUnavailable as error:
        return str(error)
    return ""


def test_a_key_of_the_settings_needs_no_token_of_the_environment(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    try_storage(open_bucket(server.settings()))


def test_no_key_at_all_says_where_to_put_one(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StorageUnavailable, match=r"no access key.*set \[uploads\] credentials, or"):
        try_storage(bucket_with(server))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 NoSuchKey", SpoolError),
        ("416 InvalidRange", SpoolError),
        ("404 page", StorageUnavailable),
        ("404 NoSuchBucket", StorageUnavailable),
        ("301 PermanentRedirect", StorageUnavailable),
        ("400 AuthorizationHeaderMalformed", StorageUnavailable),
    ],
)
async def test_only_a_storage_that_misses_an_object_is_believed(
    server: S3Server, line: Wire, status: str, error: type[CaptiondError]
) -> None:
    """A proxy that is not set up yet answers 404 as well, and images must wait then."""
    line.rule = lambda method, path: status
    bucket = open_bucket(server.settings(endpoint=line.endpoint))
    with pytest.raises(error):
        await bucket.fetch("web0-a/1", 0, 1)
    with pytest.raises(error):
        bucket.read("web0-a/1", 0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("[default]\naws_access_key_id = a\n", "has no aws_access_key_id or no aws_secret"),
        ("aws_secret_access_key = hidden", "not a file of AWS credentials"),
        ("[default\nhidden", "not a file of AWS credentials"),
    ],
)
def test_a_wrong_file_of_credentials_is_an_error_that_shows_no_secret(
    server: S3Server, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "credentials"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        bucket_with(server, credentials=file)
    assert "hidden" not in str(error.value)


def test_a_certificate_authority_that_cannot_be_read(server: S3Server, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", tmp_path / "wrong.pem"):
        if path.name == "wrong.pem":
            path.write_text("-----BEGIN CERTIFICATE-----\nwrong\n-----END CERTIFICATE-----\n")
        with pytest.raises(SettingsError, match=r"cannot be (read|used)"):
            bucket_with(server, ca=path)


def test_a_private_authority_is_trusted_if_the_settings_name_it(tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path)
    with s3_server(certificates) as server:
        assert server.endpoint.startswith("https://")
        try_storage(open_bucket(server.settings(ca=certificates[0])))
        untrusted = r"certificate is not trusted \(UnknownIssuer\); check \[uploads\] ca"
        with pytest.raises(StorageUnavailable, match=untrusted):
            try_storage(open_bucket(server.settings()))


def test_the_rules_of_the_bucket_are_what_a_bucket_takes(server: S3Server) -> None:
    rules = json.loads((POLICIES / "lifecycle.json").read_text().replace("PREFIX", PREFIX))
    client = server.client
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=rules)
    parts, forgotten = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert parts["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert forgotten["Expiration"]["Days"] > Settings().retention.retry_days

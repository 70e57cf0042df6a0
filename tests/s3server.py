"""A server that speaks the protocol of S3, in a process of its own: moto in its server mode.

It checks signatures and rights, and keeps objects in its memory. To take it away and bring it back
with its objects, a test puts a `Wire` before it.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from captiond.settings.upload_settings import UploadSettings
from tests.patience import PATIENCE
from tests.service import wait_for

BUCKET, PREFIX, REGION = "captiond-test", "uploads/of-tasks", "us-east-1"
URL = f"s3://{BUCKET}/{PREFIX}"
LISTENING = re.compile(r"Running on (https?)://127\.0\.0\.1:(\d+)")
USER, OTHER_USER, ADMIN = "captiond", "nobody", "admin"
POLICIES = Path(__file__).parents[1] / "config" / "s3"
# The requests of `prepared`, which nobody has to sign. From then on the server checks signatures.
UNSIGNED = 9
MODULE = "moto.server"


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True)
class S3Server:
    """A running server with a bucket. `keys` have the rights of `config/s3/policy.json`.

    `others` are the keys of a user without any rights, and `admin` those of one with all.
    """

    endpoint: str
    keys: Keys
    others: Keys
    admin: Keys

    def settings(self, *, endpoint: str = "", url: str = URL, **more: Any) -> UploadSettings:
        """Return the settings of a captiond that uses the bucket."""
        keys = {
            "access_key_id": self.keys.access_key_id,
            "secret_access_key": self.keys.secret_access_key,
        }
        values = {"url": url, "endpoint": endpoint or self.endpoint, "region": REGION}
        return UploadSettings.model_validate({**values, **keys, **more})

    def environ(self, *, endpoint: str = "", url: str = URL) -> dict[str, str]:
        """Return the same settings as variables of the environment."""
        return {
            "CAPTIOND_UPLOADS__URL": url,
            "CAPTIOND_UPLOADS__ENDPOINT": endpoint or self.endpoint,
            "CAPTIOND_UPLOADS__REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.keys.secret_access_key,
        }

    @cached_property
    def client(self) -> Any:
        """A client of the server that has nothing to do with captiond."""
        return client_of(self.endpoint, "s3", self.admin)

    def names(self) -> set[str]:
        """Return the names of all files in the bucket, without the prefix."""
        names = {key.removeprefix(f"{PREFIX}/") for key in self._keys()}
        return {name for name in names if "/" in name}  # without the mark of the service

    def _keys(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {each["Key"] for page in pages for each in page.get("Contents", ())}

    def put(self, name: str, content: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=content)

    def get(self, name: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")[
            "Body"
        ].read()
        return content

    def clear(self) -> None:
        """Delete all objects."""
        for key in self._keys():
            self.client.delete_object(Bucket=BUCKET, Key=key)


def client_of(endpoint: str, service: str, keys: Keys, ca: Path | None = None) -> Any:
    return boto3.client(
        service,
        verify=str(ca) if ca else None,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
    )


@contextmanager
def s3_server(certificates: tuple[Path, Path, Path] | None = None) -> Iterator[S3Server]:
    """Run a server while the block runs, with TLS if it has an authority, a certificate, a key."""
    tls = ("-c", certificates[1], "-k", certificates[2]) if certificates else ()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, "-H", "127.0.0.1", "-p", "0", *tls],
            stdout=log,
            stderr=log,
            env={"INITIAL_NO_AUTH_ACTION_COUNT": str(UNSIGNED), "PATH": ""},
        )

        def listening() -> str | None:
            assert process.poll() is None, "the S3 server has ended"
            log.seek(0)
            found = LISTENING.search(log.read().decode())
            return found and f"{found[1]}://{'localhost' if tls else '127.0.0.1'}:{found[2]}"

        try:
            endpoint = wait_for(listening, "the S3 server")
            yield prepared(endpoint, certificates[0] if certificates else None)
        finally:
            process.kill()
            process.wait(PATIENCE)


def prepared(endpoint: str, ca: Path | None) -> S3Server:
    """Create the bucket, and the users with their keys."""
    nobody = Keys("none", "none")
    iam = client_of(endpoint, "iam", nobody, ca)
    client_of(endpoint, "s3", nobody, ca).create_bucket(Bucket=BUCKET)
    keys = []
    for name in (USER, OTHER_USER, ADMIN):
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys.append(Keys(key["AccessKeyId"], key["SecretAccessKey"]))
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for name, document in ((USER, policy()), (ADMIN, {"Version": "2012-10-17", **everything})):
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(document))
    return S3Server(endpoint, *keys)


def policy() -> dict[str, Any]:
    """Return the policy that the documentation recommends, for the bucket of the tests.

    Where Amazon asks for the right to delete each object, moto asks for it on the whole bucket if
    several are deleted at once.
    """
    text = (POLICIES / "policy.json").read_text()
    document: dict[str, Any] = json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX))
    of_moto = {"Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{BUCKET}"}
    document["Statement"].append({"Sid": "Moto", "Effect": "Allow", **of_moto})
    return document

"""The section of the settings about where uploads of tasks are kept until they are captioned."""

import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from captiond.notation.textvalues import OptionalPath
from captiond.settings.option_settings import Section

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # the rules of Amazon S3
KEY_PART = re.compile(r"[A-Za-z0-9!_.*'()=-]+")  # characters that are safe in names of objects
EXTRA = "s3:// needs the extra captiond[s3]: pip install 'captiond[s3]'"


class UploadSettings(Section):
    url: str = Field(
        "",
        description="Object storage for the uploads of tasks, as s3://bucket or "
        "s3://bucket/prefix, which no other service may use. Needs the extra captiond[s3]. Empty: "
        "the folder spool in the data folder.",
    )
    endpoint: str = Field(
        "",
        description="URL of a server that speaks the protocol of S3. Empty: Amazon, or the "
        "variable AWS_ENDPOINT_URL.",
    )
    region: str = Field(
        "", description="Region of the bucket. Empty: the variable AWS_REGION, or us-east-1."
    )
    access_key_id: str = Field(
        "",
        description="Access key of the object storage. Empty: credentials, or else what the "
        "environment gives: variables, a web identity, the role of the machine.",
    )
    secret_access_key: SecretStr = Field(
        SecretStr(""), description="Secret that belongs to access_key_id."
    )
    credentials: OptionalPath = Field(
        None,
        description="File with the access key and its secret, in the form of AWS's "
        "~/.aws/credentials, of which the profile default is read. Default: none.",
    )
    ca: OptionalPath = Field(
        None,
        description="PEM file with the certificate authority of the endpoint. Default: those of "
        "the system.",
    )

    @field_validator("url")
    @classmethod
    def check_url(cls, value: str) -> str:
        if not value:
            return value
        url = urlsplit(value)
        parts = [part for part in url.path.split("/") if part]
        is_known = url.scheme == "s3" and BUCKET.fullmatch(url.netloc)
        if not is_known or url.query or url.fragment or not all(map(KEY_PART.fullmatch, parts)):
            raise ValueError("must be s3://bucket or s3://bucket/prefix, or empty")
        # guard: missing-s3
        if find_spec("obstore") is None:
            raise ValueError(EXTRA)
        return "/".join((f"s3://{url.netloc}", *parts))

    @field_validator("endpoint")
    @classmethod
    def check_endpoint(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// or http://, or be empty")
        return value.rstrip("/")

    @property
    def bucket(self) -> str:
        """Return the name of the bucket."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """Return what the names of all objects begin with, without the slash after it."""
        return urlsplit(self.url).path.strip("/")

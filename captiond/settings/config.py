"""The settings: each key with its type, default, bounds and description.

`captiond.settings.sources` merges and checks them. Nothing else in captiond reads the environment.
A key that is not defined here is an error in every source.
"""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from captiond.callbacks import check_signing_secret, parse_allowed
from captiond.databaseurl import DatabaseAddress
from captiond.jobs import Generation
from captiond.notation.textvalues import AnyCase, InHome, Listed, NeededPath, OptionalPath
from captiond.settings.client_settings import ClientSettings, KeySettings
from captiond.settings.database_settings import DatabaseSettings
from captiond.settings.dialect_settings import DialectSettings
from captiond.settings.kept_settings import CacheSettings, RetentionSettings
from captiond.settings.node_settings import NodeSettings
from captiond.settings.option_settings import (
    CaptionSettings,
    GenerationSettings,
    Section,
    TagSettings,
    TranslationSettings,
)
from captiond.settings.server_settings import ServerSettings
from captiond.settings.upload_settings import UploadSettings

MIB = 1024 * 1024
GIB = 1024 * MIB

ImageType = Literal[
    "jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif", "jpeg2000", "jxl"
]  # fmt: skip
LIBRARIES = {"heif": "pi_heif", "jxl": "pillow_jxl"}  # of image types that need an extra
Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8"]
DEVICES = re.compile(r"auto|cpu(,cpu)*|cuda(:\d+)?(,cuda:\d+)*")
PrecisionSetting = Annotated[Literal["auto", Precision], AnyCase]


class DataSettings(Section):
    dir: NeededPath = Field(
        Path("data"),
        description="Data folder: the database, the spool of uploaded files, downloaded models.",
    )


class ModelSettings(Section):
    name: Annotated[str, Field(min_length=1), InHome] = Field(
        "Salesforce/blip-image-captioning-base",
        description="Model: a name on the Hugging Face hub, a folder in the hub's layout, or the "
        "embedded captiond/scenes.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a model from the hub. Default: its main branch."
    )
    matcher: Annotated[str, InHome] = Field(
        "",
        description="Model for image-text matching, such as Salesforce/blip-itm-base-coco: a name "
        "on the hub or a folder. Empty: none.",
    )
    fallback: Annotated[str, InHome] = Field(
        "", description="Model to use if the first one is not available. Empty: none."
    )
    download: bool = Field(
        True, description="Download a model from the hub at start if it is not on disk."
    )
    cache: OptionalPath = Field(
        None, description="Folder for downloaded models. Default: models in the data folder."
    )
    device: Annotated[str, AnyCase] = Field(
        "auto",
        description="Device: auto, cpu, cuda or cuda:1. A list such as cuda:0,cuda:1 or cpu,cpu "
        "starts one model process for each entry.",
    )
    precision: PrecisionSetting = Field(
        "auto",
        description="Number format of the model. auto is fp32 on a CPU, or bf16 where that is "
        "measured to be faster; on a GPU it is bf16 or else fp16. int8 is for CPUs only, fp8 for "
        "GPUs that have it.",
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Largest number of images in a batch. 0: the best size, measured at the first "
        "start.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of a model on the CPU. 0: its share of all cores."
    )
    cuda_graphs: bool = Field(
        True, description="Replay the model's steps as CUDA graphs. Ignored on a CPU."
    )
    standby: bool = Field(
        True,
        description="Keep a replacement process waiting, so that a model process that dies is "
        "replaced sooner. It takes some 320 MB of memory.",
    )
    silence_seconds: float = Field(
        30, ge=3, le=3600, description="Replace a model process that is silent for this long."
    )
    batch_seconds: float = Field(
        600, ge=3, le=86400, description="Replace a model process that needs this long for a batch."
    )

    @field_validator("device")
    @classmethod
    def check_device(cls, value: str) -> str:
        if DEVICES.fullmatch(value) is None:
            raise ValueError("must be auto, cpu, cuda, cuda:N, or a list such as cuda:0,cuda:1")
        return value

    @property
    def devices(self) -> list[str]:
        """Return one device for each model process."""
        return self.device.split(",")


class ImageSettings(Section):
    types: Annotated[tuple[Annotated[ImageType, AnyCase], ...], Listed] = Field(
        ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "jpeg2000"),
        min_length=1,
        description="Image types that are accepted. A file's first bytes decide its type. heif "
        "needs the extra captiond[heif], and jxl the extra captiond[jxl].",
    )
    root: OptionalPath = Field(
        None,
        description="Folder with images that requests may name in the field path, instead of "
        "sending them. Default: requests cannot name files.",
    )
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        description="Largest number of pixels of an image. It is checked before any pixel is "
        "decoded.",
    )
    decoders: int = Field(
        0,
        ge=0,
        le=256,
        description="Number of decode processes. 0: one less than there are cores, or fewer if the "
        "memory for decoding is short.",
    )
    decoder_memory: int = Field(
        2048 * MIB, ge=512 * MIB, description="Address space of a decode process, in bytes."
    )
    decoders_memory: int = Field(
        0, ge=0, description="Memory for decoding in all processes, in bytes. 0: a quarter of all."
    )
    decode_seconds: float = Field(
        2, gt=0, le=600, description="Processor time that decoding one image may take."
    )
    color: Annotated[Literal["convert", "ignore"], AnyCase] = Field(
        "convert",
        description="What to do with ICC profiles and HDR: convert colours to sRGB, as viewers "
        "show them, or ignore them, as the models' own processors do.",
    )
    jpeg_draft: bool = Field(
        False,
        description="Decode large JPEGs at a fraction of their size: faster, and nearly the same.",
    )
    gpu_resize: bool = Field(
        True,
        description="Resize images on the GPU, to the same pixels, so that decoders have less to "
        "do. Larger ones than 1.5 megapixels stay with the decoders. Takes an eighth of the host's "
        "memory at most.",
    )

    @field_validator("types")
    @classmethod
    def check_extra(cls, value: tuple[ImageType, ...]) -> tuple[ImageType, ...]:
        """Refuse a type whose library is missing: every image decoder would die at its start."""
        # guard: missing-library
        for name in value:
            if name in LIBRARIES and find_spec(LIBRARIES[name]) is None:
                extra = f"captiond[{name}]"
                raise ValueError(f"{name} needs the extra {extra}: pip install '{extra}'")
        return value


class LimitSettings(Section):
    file_bytes: int = Field(20 * MIB, ge=1, description="Size of the largest image file, in bytes.")
    body_bytes: int = Field(
        512 * MIB, ge=1, description="Size of the largest request body, in bytes."
    )
    files: int = Field(
        1000, ge=1, le=10_000, description="Largest number of image files in a request."
    )
    upload_seconds: float = Field(
        300, gt=0, description="How long a request body may take to arrive."
    )
    request_seconds: float = Field(
        300,
        gt=0,
        description="How long /caption and /batch-caption may take before they answer with 504.",
    )
    waiting_images: int = Field(
        4000,
        ge=1,
        description="Largest number of images of /caption and /batch-caption that may wait. Each "
        "client has a share of it. Further requests get 503.",
    )
    queued_images: int = Field(
        1_000_000,
        ge=1,
        description="Largest number of images of tasks that may wait. Further tasks get 503.",
    )
    queued_bytes: int = Field(
        80 * GIB,
        ge=0,
        description="Largest size of the images of unfinished tasks, in bytes. Further tasks get "
        "503. 0: no limit.",
    )
    spool_bytes: int = Field(
        100 * GIB,
        ge=0,
        description="Largest size of all files in the spool, in bytes. Further tasks get 507. "
        "0: no limit.",
    )
    reserve_bytes: int = Field(
        GIB,
        ge=0,
        description="Space on the disk of the spool that uploads leave free, in bytes, but at most "
        "5 % of the disk. Further uploads get 507. 0: none.",
    )


class WebhookSettings(Section):
    allow: Annotated[tuple[str, ...], Listed] = Field(
        (),
        description="Hosts that a callback_url may name, as host or host:port. Empty: webhooks are "
        "off.",
    )
    secret: SecretStr = Field(
        SecretStr(""),
        description="Secret that signs webhooks: whsec_ and 24 to 64 random bytes in base64. Two "
        "secrets with a space between them both sign. Empty: captiond creates one in the file "
        "webhook-secret in the data folder.",
    )
    attempts: int = Field(
        10, ge=1, le=100, description="Number of attempts to deliver a webhook, with the first."
    )
    first_retry_seconds: float = Field(
        5,
        gt=0,
        le=86400,
        description="Delay between the first and the second attempt. Each later delay is 5 times "
        "the one before.",
    )
    longest_retry_seconds: float = Field(
        86400, gt=0, le=7 * 86400, description="Longest delay between two attempts."
    )
    timeout_seconds: float = Field(
        15, gt=0, le=300, description="How long a receiver may take to answer."
    )

    @field_validator("allow")
    @classmethod
    def check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_allowed(entry)
        return value

    @field_validator("secret")
    @classmethod
    def check_secrets(cls, value: SecretStr) -> SecretStr:
        for secret in value.get_secret_value().split():
            check_signing_secret(secret)
        return value


class LogSettings(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = Field(
        "info",
        description="Lowest level of messages that are logged. debug adds the time of each step of "
        "a request.",
    )
    format: Annotated[Literal["auto", "console", "json"], AnyCase] = Field(
        "auto",
        description="console is text for people, json is one object on each line. auto is console "
        "on a terminal and json elsewhere.",
    )


class Settings(Section):
    """All settings of one captiond, checked. `sources.load_settings` makes them."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    node: NodeSettings = Field(default_factory=NodeSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    generation: GenerationSettings = Field(default_factory=GenerationSettings)
    captions: CaptionSettings = Field(default_factory=CaptionSettings)
    images: ImageSettings = Field(default_factory=ImageSettings)
    tags: TagSettings = Field(default_factory=TagSettings)
    translation: TranslationSettings = Field(default_factory=TranslationSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    uploads: UploadSettings = Field(default_factory=UploadSettings)
    clients: ClientSettings = Field(default_factory=ClientSettings)
    keys: KeySettings = Field(default_factory=KeySettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    dialects: DialectSettings = Field(default_factory=DialectSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    logs: LogSettings = Field(default_factory=LogSettings)

    @property
    def default_generation(self) -> Generation:
        """Return how the captions of a request are generated that sets no option."""
        return replace(self.generation.defaults, rules=self.captions.search_rules)

    @property
    def model_cache(self) -> Path:
        """Return the folder of downloaded models."""
        return self.model.cache or self.data.dir / "models"

    @property
    def database_address(self) -> DatabaseAddress:
        """Return where the database is."""
        return self.database.address(self.data.dir / "captiond.db")

    @property
    def address_file(self) -> Path:
        """Return the file in which the running service writes its URL."""
        return self.data.dir / "captiond.url"

    @property
    def fingerprints(self) -> Path:
        """Return the file that remembers the hashes of model files."""
        return self.data.dir / "fingerprints.json"

    @property
    def tuning(self) -> Path:
        """Return the file that keeps what was measured on this machine for the next start."""
        return self.data.dir / "tuning.json"

    @property
    def upload_grace(self) -> float:
        """Return the seconds after which a spool file without a row belongs to no request."""
        return self.limits.upload_seconds + self.limits.request_seconds + 600

    @property
    def signing_secret(self) -> Path:
        """Return the file of the webhooks' secret. It is used if the settings have no secret."""
        return self.data.dir / "webhook-secret"

    @property
    def metrics_file(self) -> Path:
        """The file that the service writes its metrics to on SIGUSR1."""
        return self.data.dir / "metrics.json"

    @property
    def spool(self) -> Path:
        """Return the folder of uploaded files that are not captioned yet."""
        return self.data.dir / "spool"

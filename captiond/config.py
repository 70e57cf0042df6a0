"""Settings: defaults < captiond.toml < CAPTIOND_* in the environment < flags.

Every key is listed here with its default, its unit and its limits; a key that is not here is an
error wherever it comes from, and the error names its source. Nothing else in captiond reads the
environment.
"""

import tomllib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from captiond.callbacks import parse_allowed
from captiond.errors import SettingsError
from captiond.jobs import Generation
from captiond.tags import DEFAULT_KINDS, Category, Kind, TagFilter

Filled = TypeVar("Filled", bound=tuple[object, ...] | None)
ENV_PREFIX = "CAPTIOND_"
ENV_HINT = "; section and key are joined by two underscores, as in CAPTIOND_SERVER__PORT"
MIB = 1024 * 1024
GIB = 1024 * MIB
SIGNING_PREFIX = "whsec_"
SECRETS = {("webhooks", "secret")}  # settings whose values stand in no message


def split_list(value: object) -> object:
    """The environment and forms say `png, jpeg` where the file says `["png", "jpeg"]`."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def check_not_empty(value: Filled) -> Filled:
    if value is not None and not value:
        raise PydanticCustomError("too_short", "List should have at least 1 item")
    return value


ImageType = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif"]
Listed = BeforeValidator(split_list)
NotEmpty = AfterValidator(check_not_empty)  # not min_length, which also counts what was refused
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]{2,8})*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]
Patterns = Annotated[tuple[Pattern, ...], Listed, Field(max_length=1000)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Web processes on the one listening socket.")
    shutdown_seconds: float = Field(
        30, gt=0, le=3600, description="A drain that takes longer than this is cut short."
    )


class DataSettings(Section):
    dir: Path = Field(
        Path("data"), description="Folder for the database, the spool and downloaded models."
    )


Precision = Literal["fp32", "fp16", "bf16", "int8"]
PrecisionSetting = Literal["auto", Precision]


class ModelSettings(Section):
    name: str = Field(
        "Salesforce/blip-image-captioning-base",
        min_length=1,
        description="A hub name, a folder in the Hugging Face layout, or captiond/scenes.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    fallback: str = Field(
        "", description="The model to run when the first cannot be had; empty: none."
    )
    download: bool = Field(True, description="Fetch a hub model that is not on disk at start.")
    cache: Path | None = Field(
        None, description="Folder for downloaded models; default: models in the data folder."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu(,cpu)*|cuda(:\d+)?(,cuda:\d+)*)$",
        description="auto, cpu, cuda, cuda:N, or several as cuda:0,cuda:1 or cpu,cpu; one process "
        "each.",
    )
    precision: PrecisionSetting = Field(
        "auto", description="auto: fp32 on a CPU, bf16 (or fp16) on a GPU. int8: CPUs."
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Most images in a batch; 0: what is best here, found at start.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of a CPU model; 0: its share of all cores."
    )
    cuda_graphs: bool = Field(
        True, description="Replay token steps as CUDA graphs; on a CPU it says nothing."
    )
    standby: bool = Field(
        True, description="Keep a replacement waiting: quicker after a death, some 400 MB more."
    )
    silence_seconds: float = Field(
        30, ge=3, le=3600, description="A model process that says nothing for so long is replaced."
    )
    batch_seconds: float = Field(
        600, ge=3, le=86400, description="One whose batch takes longer is replaced, too."
    )

    @property
    def devices(self) -> list[str]:
        """One for each model process."""
        return self.device.split(",")


class GenerationSettings(Section):
    num_beams: int = Field(1, ge=1, le=8, description="1 is greedy search.")
    max_new_tokens: int = Field(20, ge=1, le=100, description="Longest caption, in tokens.")
    min_new_tokens: int = Field(0, ge=0, le=100, description="Shortest caption, in tokens.")
    repetition_penalty: float = Field(
        1, gt=0, le=10, description="Above 1, words that are there already become less likely."
    )
    prompt: str = Field("", max_length=200, description="What every caption begins with.")

    @model_validator(mode="after")
    def check_lengths(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise PydanticCustomError("lengths", "min_new_tokens is greater than max_new_tokens")
        return self

    @property
    def defaults(self) -> Generation:
        """What a request gets that asks for nothing else."""
        return Generation(**self.model_dump())


class ImageSettings(Section):
    types: Annotated[tuple[ImageType, ...], Listed] = Field(
        ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"),
        min_length=1,
        description="Types that are read, told by a file's first bytes.",
    )

    max_pixels: int = Field(
        50_000_000, ge=1, description="Most pixels, read from the header before any is decoded."
    )
    decoders: int = Field(
        0, ge=0, le=256, description="Processes that decode images; 0: by the number of cores."
    )
    decoder_memory: int = Field(
        2048 * MIB, ge=512 * MIB, description="Address space of a decoder, in bytes."
    )
    decode_seconds: float = Field(
        10, gt=0, le=600, description="Processor time that one image may take to decode."
    )
    jpeg_draft: bool = Field(
        False, description="Read large JPEGs at a fraction of their size: quicker, nearly the same."
    )


class TagSettings(Section):
    pipelines: dict[LanguageCode, Annotated[str, Field(min_length=1)]] = Field(
        {"en": "captiond/english"},
        min_length=1,
        description="A spaCy pipeline for each language: captiond/english, a package, or a folder.",
    )
    language: str = Field("en", description="The language of a request that names none.")
    kinds: Annotated[tuple[Kind, ...], NotEmpty, Listed] = Field(
        DEFAULT_KINDS, description="Which tags: phrase, noun, adjective."
    )
    categories: Annotated[tuple[Category, ...], Listed] = Field(
        (), description="Tags of these categories alone; empty: of all."
    )
    deny: Patterns = Field((), description="Tags and lemmas that no request gets; * is anything.")
    allow: Patterns = Field((), description="Tags and lemmas that alone are given; empty: all.")
    min_length: int = Field(1, ge=1, le=100, description="Fewest characters of a tag.")
    max_number: int = Field(
        0, ge=0, le=1000, description="Most tags of a caption, the subject's first; 0: all."
    )
    synonyms: Path | None = Field(
        None, description="A file of lines such as: automobile = car; default: none."
    )

    @field_validator("pipelines", mode="before")
    @classmethod
    def read_pairs(cls, value: object) -> object:
        """The environment says `en=captiond/english,de=de_core_news_sm`."""
        if not isinstance(value, str):
            return value
        pairs = (pair.partition("=") for pair in value.split(","))
        return {language.strip(): name.strip() for language, _, name in pairs}

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str, info: ValidationInfo) -> str:
        pipelines = info.data.get("pipelines", {value: ""})
        if value not in pipelines:
            message = "tags.pipelines has none for it, only for: {known}"
            raise PydanticCustomError("language", message, {"known": ", ".join(pipelines)})
        return value

    @property
    def filter(self) -> TagFilter:
        """Which tags the deployment wants."""
        return TagFilter(
            kinds=self.kinds,
            categories=self.categories,
            deny=self.deny,
            allow=(self.allow,) if self.allow else (),
            min_length=self.min_length,
            max_number=self.max_number,
        )


class LimitSettings(Section):
    file_bytes: int = Field(20 * MIB, ge=1, description="Largest image file.")
    body_bytes: int = Field(512 * MIB, ge=1, description="Largest request body.")
    files: int = Field(100, ge=1, le=10_000, description="Most files in a request.")
    upload_seconds: float = Field(300, gt=0, description="A body must have arrived by then.")
    request_seconds: float = Field(
        300, gt=0, description="An interactive request is answered by then, or with 504."
    )
    waiting_images: int = Field(
        1000, ge=1, description="Interactive images that may wait; more are told 503."
    )
    queued_images: int = Field(
        1_000_000, ge=1, description="Images of tasks that may wait; more are told 503."
    )
    spool_bytes: int = Field(
        100 * GIB,
        ge=0,
        description="Uploaded files that may be in the spool, in bytes; when they are more, tasks "
        "are refused with 507. 0: no limit but the disk.",
    )


class CacheSettings(Section):
    enabled: bool = Field(True, description="Caption the same bytes only once.")


class WebhookSettings(Section):
    allow: Annotated[tuple[str, ...], Listed] = Field(
        (), description="Hosts that may be called, as host or host:port; empty: webhooks are off."
    )
    secret: SecretStr = Field(
        SecretStr(""),
        description="whsec_ and base64; two with a space between them while one replaces the "
        "other. Empty: one is made, in webhook-secret in the data folder.",
    )
    attempts: int = Field(10, ge=1, le=100, description="Tries, the first included.")
    first_retry_seconds: float = Field(
        5, gt=0, le=86400, description="Until the second try; each delay is 5 times the last."
    )
    longest_retry_seconds: float = Field(
        86400, gt=0, le=7 * 86400, description="A delay grows no longer than this."
    )
    timeout_seconds: float = Field(
        15, gt=0, le=300, description="A receiver must have answered by then."
    )

    @field_validator("allow")
    @classmethod
    def are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_allowed(entry)
        return value

    @field_validator("secret")
    @classmethod
    def is_signing_secret(cls, value: SecretStr) -> SecretStr:
        for secret in value.get_secret_value().split():
            check_signing_secret(secret)
        return value


def check_signing_secret(secret: str) -> None:
    """Pass if `secret` is as Standard Webhooks has it: whsec_ and 24 to 64 bytes in base64.

    Raises:
        ValueError: it is not.
    """
    try:
        key = b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(SIGNING_PREFIX) and 24 <= len(key) <= 64):
        raise ValueError(f"must be {SIGNING_PREFIX} and 24 to 64 random bytes in base64")


class RetentionSettings(Section):
    task_days: float = Field(
        30, ge=0, le=36500, description="A finished task is kept for so long; 0: for ever."
    )
    retry_days: float = Field(
        7, ge=0, le=36500, description="Files of images that may be tried again are, for so long."
    )
    retry_bytes: int = Field(
        10 * GIB,
        ge=0,
        description="Files that are kept only for a retry, in bytes; those of the tasks that "
        "finished first are removed first. 0: no limit.",
    )
    cache_rows: int = Field(
        1_000_000, ge=0, description="Captions in the cache, the oldest go first; 0: no limit."
    )


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, JSON lines elsewhere."
    )


class Settings(Section):
    """All settings of one captiond, checked. Made by `load_settings`."""

    server: ServerSettings = ServerSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    generation: GenerationSettings = GenerationSettings()
    images: ImageSettings = ImageSettings()
    tags: TagSettings = TagSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    logs: LogSettings = LogSettings()

    @property
    def model_cache(self) -> Path:
        """The folder that holds downloaded models."""
        return self.model.cache or self.data.dir / "models"

    @property
    def database(self) -> Path:
        return self.data.dir / "captiond.db"

    @property
    def batch_sizes(self) -> Path:
        """What was found, so that the next start need not try again."""
        return self.data.dir / "batch-sizes.json"

    @property
    def upload_grace(self) -> float:
        """Seconds after which a spool file that no row owns is of no request any more."""
        return self.limits.upload_seconds + self.limits.request_seconds + 600

    @property
    def signing_secret(self) -> Path:
        """The file of the webhooks' secret, where the settings hold none."""
        return self.data.dir / "webhook-secret"

    @property
    def metrics_file(self) -> Path:
        """The file that the service writes its metrics to on SIGUSR1."""
        return self.data.dir / "metrics.json"

    @property
    def spool(self) -> Path:
        """The folder of uploaded files that are not captioned yet."""
        return self.data.dir / "spool"


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one source: `values[section][key]`; `name` is what an error calls it."""

    name: str
    values: Mapping[str, Any]

    def holds(self, section: str, key: str) -> bool:
        keys = self.values.get(section)
        return key in keys if isinstance(keys, Mapping) and key else keys is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting in force, and the name of the source that gave it."""

    section: str
    key: str
    value: Any
    source: str


def load_settings(
    *,
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Mapping[str, Any]],
) -> Settings:
    """The checked settings of a file, the environment and the command line.

    `flags[section][key]` holds what was given on the command line, None where nothing was.

    Raises:
        SettingsError: naming the source, the key and the value of everything that is wrong.
    """
    return checked(layers_of(file, environ, flags))


def layers_of(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Mapping[str, Any]]
) -> list[Layer]:
    """The sources, the one that wins first. Raises SettingsError as `from_file` does."""
    layers = [from_flags(flags), from_environment(environ)]
    return [*layers, from_file(file)] if file is not None else layers


def checked(layers: list[Layer]) -> Settings:
    """The settings that the layers make together. Raises SettingsError."""
    try:
        return Settings.model_validate(merge(layers))
    except ValidationError as error:
        lines = (describe(problem, layers) for problem in error.errors())
        raise SettingsError("\n".join(lines)) from None


def origins(layers: list[Layer]) -> list[Origin]:
    """Every setting in force with its source. Raises SettingsError."""
    settings = checked(layers).model_dump(mode="json")
    return [
        Origin(section, key, value, source_of(layers, section, key) or "default")
        for section, keys in settings.items()
        for key, value in keys.items()
    ]


def from_file(path: Path) -> Layer:
    """The layer of a TOML file.

    Raises:
        SettingsError: it cannot be read, or is not TOML.
    """
    try:
        return Layer(str(path), tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def from_environment(environ: Mapping[str, str]) -> Layer:
    """`CAPTIOND_SERVER__PORT=80` is `server.port`; `CAPTIOND_CONFIG` names the file instead."""
    values: dict[str, Any] = {}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name != f"{ENV_PREFIX}CONFIG":
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            if key:
                values.setdefault(section, {})[key] = value
            else:
                values[section] = value
    return Layer("environment", values)


def from_flags(flags: Mapping[str, Mapping[str, Any]]) -> Layer:
    given = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in flags.items()
    }
    return Layer("command line", {section: keys for section, keys in given.items() if keys})


def merge(layers: list[Layer]) -> dict[str, Any]:
    """One mapping of all layers, the first one given winning key by key."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        for section, keys in layer.values.items():
            if isinstance(keys, Mapping) and isinstance(merged.get(section, {}), dict):
                merged.setdefault(section, {}).update(keys)
            else:
                merged[section] = keys
    return merged


def source_of(layers: list[Layer], section: str, key: str) -> str | None:
    return next((layer.name for layer in layers if layer.holds(section, key)), None)


def describe(problem: ErrorDetails, layers: list[Layer]) -> str:
    """One line for one wrong setting: where it stands, what it is, what is wrong with it."""
    steps = [step for step in problem["loc"] if isinstance(step, str) and step != "[key]"]
    source = source_of(layers, steps[0], "".join(steps[1:2])) or "settings"
    name = ".".join(steps)
    if source == "environment":
        name = ENV_PREFIX + "__".join(steps[:2]).upper()
    if problem["type"] == "extra_forbidden":
        hint = ENV_HINT if source == "environment" and len(steps) == 1 else ""
        return f"{source}: {name}: there is no such setting{hint}"
    value = "***" if tuple(steps) in SECRETS else repr(problem["input"])
    return f"{source}: {name} = {value}: {problem['msg']}"

"""The sections of the settings about clients: their keys and their limits."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_serializer, model_validator

from captiond.keys import DEFAULT_SCOPES, HASH_PREFIX, Key, Limits, Scope, parse_key
from captiond.notation.textvalues import AnyCase, Listed, OptionalPath, Tabled, read_table
from captiond.settings.option_settings import Section

MIB = 1024 * 1024
MAX_NAME = 64
MOST = 2**60  # of any limit; sums of such numbers are 64-bit integers
LEAST_WEIGHT, MOST_WEIGHT, LEAST_SHARE = 0.001, 1000.0, 0.001
NAME = rf"^[\w.@-]{{1,{MAX_NAME}}}$"


def check_body_bytes(value: int) -> int:
    """Refuse a limit that is too small for one photograph."""
    if 0 < value < MIB:
        raise ValueError(f"must be 0 or at least {MIB}")
    return value


BodyBytes = Annotated[int, AfterValidator(check_body_bytes)]


class KeyEntry(Section):
    """One key in the settings or in a file of keys. It is kept as its hash only."""

    key: str = Field(
        repr=False,
        description="The key, or sha256: and its hash in hex. captiond keys create makes both.",
    )
    scopes: Annotated[tuple[Annotated[Scope, AnyCase], ...], Listed] = Field(
        DEFAULT_SCOPES, min_length=1, description="What the key permits."
    )
    weight: float = Field(
        1,
        ge=LEAST_WEIGHT,
        le=MOST_WEIGHT,
        description="Weight in fair turns. 2 gets twice the share of 1.",
    )
    share: float = Field(
        1,
        ge=LEAST_SHARE,
        le=1,
        description="Share of the queues that the images of the key may fill.",
    )
    requests: int | None = Field(
        None, ge=0, le=MOST, description="Requests in a window, in place of clients.requests."
    )
    concurrent: int | None = Field(
        None, ge=0, le=MOST, description="Simultaneous requests, in place of clients.concurrent."
    )
    images: int | None = Field(
        None, ge=0, le=MOST, description="Waiting images, in place of clients.images."
    )
    body_bytes: BodyBytes | None = Field(
        None, ge=0, le=MOST, description="Bytes of bodies, in place of clients.body_bytes."
    )

    @model_validator(mode="before")
    @classmethod
    def read_text(cls, value: Any) -> Any:
        """Take the text of a key for an entry, as in an environment variable."""
        if isinstance(value, str) and not value.lstrip().startswith("{"):
            return {"key": value}
        return read_table(value)

    @field_validator("key")
    @classmethod
    def forget_key(cls, value: str) -> str:
        """Replace the key by its hash."""
        return HASH_PREFIX + parse_key(value).hex()

    @model_serializer
    def shown(self) -> dict[str, Any]:
        """Return what `captiond config show` prints: the fields that are set, without the key."""
        return {name: "***" if name == "key" else getattr(self, name) for name in self._set}

    @property
    def _set(self) -> list[str]:
        return [name for name in type(self).model_fields if name in self.model_fields_set]

    def named(self, name: str) -> Key:
        """Return the key with this name."""
        return Key(
            name=name,
            digest=parse_key(self.key),
            scopes=frozenset(self.scopes),
            weight=self.weight,
            share=self.share,
            limits=Limits(self.requests, self.concurrent, self.images, self.body_bytes),
        )


KeyName = Annotated[str, Field(pattern=NAME)]


class KeySettings(Section):
    file: OptionalPath = Field(
        None,
        description="File of keys: a TOML table for each, with the fields of keys.named. It is "
        "read again when it changes.",
    )
    named: Annotated[dict[KeyName, KeyEntry], Tabled] = Field(
        {},
        description="A key for each name: the key itself or its hash, and optionally scopes, "
        "weight, share and limits. No keys anywhere: every request is permitted.",
    )


class ClientSettings(Section):
    window_seconds: float = Field(
        60, ge=1, le=86400, description="Length of the window in which requests are counted."
    )
    requests: int = Field(
        0,
        ge=0,
        le=MOST,
        description="Largest number of requests of a client in a window. 0: no limit.",
    )
    concurrent: int = Field(
        0,
        ge=0,
        le=MOST,
        description="Largest number of simultaneous requests of a client. 0: no limit.",
    )
    images: int = Field(
        0,
        ge=0,
        le=MOST,
        description="Largest number of waiting images of a client: as many in its tasks, and as "
        "many in its other requests. 0: no limit.",
    )
    body_bytes: BodyBytes = Field(
        0,
        ge=0,
        le=MOST,
        description="Largest size of all request bodies of a client that captiond receives or "
        "works on, in bytes. 0: no limit.",
    )

    lists: Annotated[Literal["none", "own", "all"], AnyCase] = Field(
        "none",
        description="Which tasks GET /tasks lists while there are no keys: none, those that came "
        "from the same address, or all. Whoever has a list can read and cancel its tasks.",
    )

    @property
    def limits(self) -> Limits:
        """Return the limits of a client whose key has none of its own."""
        return Limits(self.requests, self.concurrent, self.images, self.body_bytes)

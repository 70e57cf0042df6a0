"""The settings of [server]: where captiond listens, under which names, and behind which proxies."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from captiond.clients import Proxies
from captiond.notation.textvalues import AnyCase, Listed
from captiond.origins import check_host_entry, check_origin_entry, root_path_of
from captiond.settings.option_settings import Section


class ServerSettings(Section):
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. 0.0.0.0 listens on every IPv4 address, :: on every "
        "address.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on. 0: any free port.")
    workers: int = Field(
        1, ge=1, le=64, description="Number of web processes. They share the listening socket."
    )
    hosts: Annotated[tuple[str, ...], Listed] = Field(
        (),
        description="Further host names of the service, such as captions.example.com. IP "
        "addresses, names without a dot and names of private networks need no entry. * allows "
        "every name.",
    )
    cors_origins: Annotated[tuple[str, ...], Listed] = Field(
        (),
        description="Origins whose web pages may use the service, such as "
        "https://photos.example.com. * allows every page. Empty: only the service's own page.",
    )
    trusted_proxies: Annotated[tuple[str, ...], Listed] = Field(
        (),
        description="Addresses and networks of the proxies that report the address of a client. "
        "Empty: a client has the address of its connection.",
    )
    proxy_header: Annotated[Literal["x-forwarded-for", "forwarded"], AnyCase] = Field(
        "x-forwarded-for",
        description="Header in which trusted proxies report it. The other header is ignored, "
        "because a client may have written it.",
    )
    root_path: str = Field(
        "",
        description="Path under which a reverse proxy serves captiond, such as /captions. The "
        "proxy may remove it from the requests or pass it on. Empty: no proxy does that.",
    )
    connections: int = Field(
        2000,
        ge=1,
        le=30_000,
        description="Largest number of connections of a web process. Fewer if the limit on open "
        "files allows no more. If all are in use, a new connection replaces one that waits for its "
        "client.",
    )
    shutdown_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long a stop may take to finish the images in progress. Accepted tasks "
        "that are not finished by then continue at the next start.",
    )

    @field_validator("host")
    @classmethod
    def without_brackets(cls, value: str) -> str:
        """Take an IPv6 address in brackets, as in a URL, for the address."""
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("hosts")
    @classmethod
    def check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            check_host_entry(entry)
        return value

    @field_validator("cors_origins")
    @classmethod
    def check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            check_origin_entry(entry)
        return value

    @field_validator("root_path")
    @classmethod
    def check_root_path(cls, value: str) -> str:
        return root_path_of(value)

    @field_validator("trusted_proxies")
    @classmethod
    def check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Proxies.parse(value)
        return value

"""The settings of [database]: which database holds the tasks, and how it is reached."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from captiond.databaseurl import DatabaseAddress, check_database_url, sqlite_file
from captiond.settings.option_settings import Section


class DatabaseSettings(Section):
    url: SecretStr = Field(
        SecretStr(""),
        description="Database: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE, which "
        "needs the extra captiond[postgres]. Empty: the file captiond.db in the data folder.",
    )
    connections: int = Field(
        5,
        ge=2,
        le=100,
        description="Largest number of connections of each process to PostgreSQL.",
    )
    statement_seconds: float = Field(
        60,
        ge=1,
        le=3600,
        description="How long a statement on PostgreSQL may take before it is given up.",
    )
    connect_seconds: float = Field(
        10,
        ge=1,
        le=600,
        description="How long a connection to PostgreSQL may take to open.",
    )

    @field_validator("url")
    @classmethod
    def check_url(cls, value: SecretStr) -> SecretStr:
        return SecretStr(check_database_url(value.get_secret_value()))

    def address(self, default: Path) -> DatabaseAddress:
        """Return the place of the database. `default` is its file if there is no URL."""
        url = self.url.get_secret_value()
        file = sqlite_file(url) if url else default
        return DatabaseAddress(
            file,
            "" if file is not None else url,
            self.connections,
            self.statement_seconds,
            self.connect_seconds,
        )

"""The sections of the settings about what is kept: captions, finished tasks and their files."""

from pydantic import Field

from captiond.settings.option_settings import Section

GIB = 1024**3


class CacheSettings(Section):
    enabled: bool = Field(
        True, description="Return the stored caption for an image that was captioned before."
    )


class RetentionSettings(Section):
    task_days: float = Field(
        30, ge=0, le=36500, description="How long finished tasks and imports are kept. 0: for ever."
    )
    retry_days: float = Field(
        7,
        ge=0,
        le=36500,
        description="How long the files of failed images are kept, so that captiond tasks retry "
        "can run them again.",
    )
    retry_bytes: int = Field(
        10 * GIB,
        ge=0,
        description="Largest size of all files of failed images that are kept for a retry, in "
        "bytes. The oldest are removed first. 0: no limit.",
    )
    cache_rows: int = Field(
        1_000_000,
        ge=0,
        description="Largest number of captions in the cache. The oldest are deleted first. "
        "0: no limit.",
    )

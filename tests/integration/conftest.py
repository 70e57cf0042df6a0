"""The fixture `configured`: one service for the tests of several files that need settings."""

from collections.abc import Iterator

import pytest
import spacy

from tests.service import DATA, Service, running
from tests.tagging import GERMAN, add_german_words

GERMAN["NOUN"] |= {"Boot": "boat", "Sonne": "sun"}
TAKES_ALL = {
    "CAPTIOND_WEBHOOKS__ALLOW": "hooks.example",
    "CAPTIOND_WEBHOOKS__SECRET": "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "CAPTIOND_IMAGES__ROOT": str(DATA),
    "CAPTIOND_CLIENTS__LISTS": "all",
}


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes all that its document describes.

    It has two languages, a deny list and synonyms.
    """
    folder = tmp_path_factory.mktemp("configured")
    add_german_words(spacy.blank("de")).to_disk(folder / "german")
    (folder / "synonyms.txt").write_text("boat = vessel\n")
    (folder / "captiond.toml").write_text(
        f"""
        [tags]
        deny = ["*yellow*"]
        synonyms = "{folder / "synonyms.txt"}"
        [tags.pipelines]
        en = "captiond/english"
        de = "{folder / "german"}"
        """
    )
    flags = ("--config", str(folder / "captiond.toml"))
    with running(folder / "data", *flags, **TAKES_ALL) as service:
        yield service
        assert service.logged("request_failed") == []
        assert service.stop() == 0

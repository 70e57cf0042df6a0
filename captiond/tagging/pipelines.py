"""Which spaCy pipeline makes the tags: the embedded one, an installed package, or a folder."""

import hashlib
from pathlib import Path

import spacy
from spacy.language import Language

from captiond.errors import ModelBroken, ModelMissing
from captiond.tagging.extract import RULES_VERSION

EMBEDDED = {"captiond/english": Path(__file__).resolve().parent.parent / "embedded" / "english"}
UNUSED = ["ner", "textcat", "entity_linker", "senter"]


def load_pipeline(name: str) -> Language:
    """The pipeline of a name, without the components that no tag needs.

    Raises:
        ModelMissing: there is no such pipeline; the message says how to get it.
        ModelBroken: it is there and cannot be loaded.
    """
    folder = folder_of(name)
    if folder is None and not spacy.util.is_package(name):
        raise ModelMissing(
            f"[tags] pipeline = {name}: neither captiond/english, nor an installed package, nor a "
            f"folder; try: python -m spacy download {name}"
        )
    try:
        return spacy.load(folder or name, exclude=UNUSED)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelBroken(f"[tags] pipeline = {name}: cannot be loaded: {error}") from error


def folder_of(name: str) -> Path | None:
    """The folder that a name stands for; None where it can only be a package's."""
    folder = EMBEDDED.get(name, Path(name).expanduser())
    return folder if (folder / "meta.json").is_file() else None


def fingerprint(name: str, nlp: Language) -> str:
    """What tells one pipeline's tags from another's: its name, version, files and our rules."""
    identity = hashlib.sha256(f"{name} {nlp.meta['version']} {RULES_VERSION}".encode())
    folder = folder_of(name)
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file():
            identity.update(path.read_bytes())
    return identity.hexdigest()[:32]

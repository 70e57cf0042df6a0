"""Which spaCy pipeline makes the tags: the embedded one, an installed package, or a folder."""

import hashlib
from pathlib import Path

import spacy
from spacy.language import Language

from captiond.errors import ModelBroken, ModelMissing
from captiond.tagging.extract import RULES_VERSION

EMBEDDED = {"captiond/english": Path(__file__).resolve().parent.parent / "embedded" / "english"}
UNUSED = ["ner", "entity_linker", "entity_ruler", "spancat", "senter", "textcat"]


def load_pipeline(name: str) -> Language:
    """The pipeline of a name, without the components that no tag needs.

    Raises:
        ModelMissing: there is no such pipeline; the message says how to get it.
        ModelBroken: it is there and cannot be loaded.
    """
    folder = folder_of(name)
    if folder is None and not _is_package(name):
        raise ModelMissing(f"[tags] pipeline = {name}: {_mend(name)}")
    try:
        return spacy.load(folder or name, exclude=UNUSED)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelBroken(f"[tags] pipeline = {name}: cannot be loaded: {error}") from error


def folder_of(name: str) -> Path | None:
    """The folder that a name stands for; None where it can only be a package's."""
    folder = EMBEDDED.get(name, Path(name))
    return folder if (folder / "meta.json").is_file() else None


def fingerprint(name: str, nlp: Language) -> str:
    """What tells one pipeline's tags from another's: its name, version, files and our rules.

    32 hexadecimal digits; a package is known by its version alone, a folder by its files too.
    """
    identity = hashlib.sha256(f"{name} {nlp.meta['version']} {RULES_VERSION}".encode())
    folder = folder_of(name)
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file() and path.suffix != ".md":
            identity.update(path.read_bytes())
    return identity.hexdigest()[:32]


def _is_package(name: str) -> bool:
    return name.isidentifier() and spacy.util.is_package(name)


def _mend(name: str) -> str:
    if name in EMBEDDED:
        return f"its folder {EMBEDDED[name]} is not there; install captiond again"
    if name.isidentifier():
        return f"no such package is installed; try: python -m spacy download {name}"
    return "neither captiond/english nor the folder of a spaCy pipeline (it has a meta.json)"

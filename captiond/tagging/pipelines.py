"""Which spaCy pipeline makes the tags: the embedded one, an installed package, or a folder."""

import hashlib
from pathlib import Path

import spacy
from spacy.language import Language
from thinc.api import use_ops

from captiond.errors import ModelBroken, ModelMissing
from captiond.tagging.extract import RULES_VERSION
from captiond.tagging.lexicon import lexicon_files

EMBEDDED = {"captiond/english": Path(__file__).resolve().parent.parent / "embedded" / "english"}
UNUSED = ["ner", "entity_linker", "entity_ruler", "spancat", "senter", "textcat"]


def load_pipeline(language: str, name: str) -> Language:
    """The pipeline of a language by its name, without the components that no tag needs.

    Raises:
        ModelMissing: there is no such pipeline; the message says how to get it.
        ModelBroken: it is there and cannot be loaded.
    """
    setting = f"tags.pipelines.{language} = {name}"
    folder = folder_of(name)
    if folder is None and not _is_package(name):
        raise ModelMissing(f"{setting}: {_mend(name)}")
    try:
        # NumPy's own matrix products, three times as quick as the BLIS that thinc would take.
        with use_ops("numpy", use_blis=False):
            return spacy.load(folder or name, exclude=UNUSED)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelBroken(f"{setting}: cannot be loaded: {error}") from error


def folder_of(name: str) -> Path | None:
    """The folder that a name stands for; None where it can only be a package's."""
    folder = EMBEDDED.get(name, Path(name))
    return folder if (folder / "meta.json").is_file() else None


def fingerprint(language: str, name: str, nlp: Language, synonyms: Path | None = None) -> str:
    """What tells these tags from others: the pipeline and its files, our rules, words and synonyms.

    32 hexadecimal digits; a package is known by its version alone, a folder by its files too.
    """
    version = nlp.meta["version"]
    identity = hashlib.sha256(f"{language} {name} {version} {RULES_VERSION}".encode())
    folder = folder_of(name)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix != ".md"] if folder else []
    for path in (*files, *lexicon_files(language), synonyms):
        if path is not None and path.is_file():
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

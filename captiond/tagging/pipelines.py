"""Loading spaCy pipelines: the embedded one, an installed package, or a folder."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thinc.api import use_ops

from captiond.errors import ModelBroken, ModelMissing
from captiond.tagging.embedded import EMBEDDED
from captiond.tagging.extract import RULES_VERSION
from captiond.tagging.lexicon import lexicon_files
from captiond.tagging.spacy_parts import Language, Tokenizer, spacy

UNUSED = ["ner", "entity_linker", "entity_ruler", "spancat", "senter", "textcat"]
EMPTY_TOKENIZER = "captiond.EmptyTokenizer.v1"


def make_empty_tokenizer() -> Callable[[Language], Tokenizer]:
    """Return a function that makes a tokenizer which its pipeline's file fills.

    spaCy would first fill it with the exceptions of the language, which the file has as well. That
    is a third of the time of loading a small pipeline.
    """
    return lambda nlp: Tokenizer(nlp.vocab)


spacy.util.registry.tokenizers(EMPTY_TOKENIZER, func=make_empty_tokenizer)


def load_pipeline(language: str, name: str) -> Language:
    """Load the pipeline with this name, without the components that tags do not need.

    `language` appears in error messages, which name the setting that is wrong.

    Raises:
        ModelMissing: There is no such pipeline. The message says how to install it.
        ModelBroken: The pipeline exists but cannot be loaded.
    """
    setting = f"tags.pipelines.{language} = {name}"
    folder = folder_of(name)
    if folder is None and not _is_package(name):
        raise ModelMissing(f"{setting}: {_advice(name)}")
    try:
        # thinc's default for matrix products, BLIS, is slower than NumPy.
        with use_ops("numpy", use_blis=False):
            return spacy.load(folder or name, exclude=UNUSED, config=changes(name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelBroken(f"{setting}: cannot be loaded: {error}") from error


def changes(name: str) -> dict[str, Any]:
    """Return what is different from the pipeline's own configuration. Others may need theirs."""
    return {"nlp": {"tokenizer": {"@tokenizers": EMPTY_TOKENIZER}}} if name in EMBEDDED else {}


def folder_of(name: str) -> Path | None:
    """Return the folder of the pipeline with this name, or None if it can only be a package."""
    folder = EMBEDDED.get(name, Path(name))
    return folder if (folder / "meta.json").is_file() else None


def fingerprint(language: str, name: str, nlp: Language, synonyms: Path | None = None) -> str:
    """Return a hash of everything that the tags of a caption depend on, as 32 hexadecimal digits.

    The hash covers the language, the pipeline's name and version, the tag rules, the lexicon and
    the synonyms. If the pipeline is a folder, the hash covers its files as well.
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


def _advice(name: str) -> str:
    if name in EMBEDDED:
        return f"its folder {EMBEDDED[name]} is missing; install captiond again"
    if name.isidentifier():
        return f"no such package is installed; try: {sys.executable} -m spacy download {name}"
    return "must be captiond/english, an installed package, or the folder of a pipeline (meta.json)"

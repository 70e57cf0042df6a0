"""Saving a trained pipeline to a folder, with only the files that it needs."""

from pathlib import Path

from spacy.language import Language


def save(nlp: Language, folder: Path) -> None:
    """Write `nlp` into `folder` and replace the files there, except its card, README.md.

    The vocabulary is left out. It has every word of the treebank, and the pipeline does not need
    it: the components store what they use in their own files.
    """
    nlp.to_disk(folder, exclude=["vocab"])


def folder_bytes(folder: Path) -> int:
    """Return the total size of the files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

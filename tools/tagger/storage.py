"""Write the trained pipeline to its folder, with nothing in it that it does not need."""

from pathlib import Path

from spacy.language import Language


def save(nlp: Language, folder: Path) -> None:
    """Write `nlp` into `folder`, over what is there; its card, README.md, stays.

    The vocabulary stays behind: it holds every word of the treebank, and nothing that is not in
    the components' own files too.
    """
    nlp.to_disk(folder, exclude=["vocab"])


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""`captiond calibrate`: thresholds for a vocabulary, from images whose right tags are known."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from captiond.errors import CaptiondError
from captiond.vocabulary import VocabularyTag, read_tags

ENOUGH = 5  # right images, from which on a tag gets a threshold of its own
LOWEST = -50.0  # the score of a tag that is not in a result
DIGITS = 2


class UnreadableExamples(CaptiondError):
    """A file of results or of right tags cannot be used."""

    code = "unreadable_examples"


@dataclass(frozen=True, slots=True)
class ScoredExample:
    """The scores of an image's tags, and its right tags, both by the tags in lower case."""

    scores: Mapping[str, float]
    right: frozenset[str]


def calibrate(
    vocabulary: Annotated[
        Path, typer.Argument(metavar="VOCABULARY", help="File of tags, as for [tags] vocabulary.")
    ],
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="Results as JSON lines, of captiond caption with --set "
            "tags.vocabulary_threshold=-50.",
        ),
    ],
    right: Annotated[
        Path,
        typer.Argument(
            metavar="RIGHT",
            help="File with the right tags of each image: photo.jpg = cat, sofa",
        ),
    ],
) -> None:
    """Find the best thresholds of a vocabulary, from images whose right tags are known.

    The output is the vocabulary with these thresholds. The best threshold gives the greatest F1,
    the harmonic mean of precision and recall. A tag that is right for at least five images gets its
    own threshold. The first line is a comment with the threshold of all other tags, for
    tags.vocabulary_threshold.
    """
    tags = read_tags(vocabulary)
    typer.echo("\n".join(calibrated_lines(tags, examples_of(results, right))))


def examples_of(results: Path, right: Path) -> list[ScoredExample]:
    """Return the images that are in both files.

    Raises:
        UnreadableExamples: a file cannot be read, or no image is in both.
    """
    right_tags = dict(right_lines(right))
    examples = [
        ScoredExample(scores, right_tags[image])
        for image, scores in results_in(results)
        if image in right_tags
    ]
    if not examples:
        raise UnreadableExamples(f"{right}: has no image of {results}; paths must be the same")
    return examples


def results_in(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the images in a file of JSON lines that have tags, with the scores of these."""
    for number, line in enumerate(lines_of(path), start=1):
        try:
            result = json.loads(line)
            image, details = str(result["image_path"]), result["tag_details"]
            scores = None if details is None else scores_of(details)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            message = f"{path}: line {number} is not a result of captiond as JSON: {error!r}"
            raise UnreadableExamples(message) from None
        if scores is not None:
            yield image, scores


def right_lines(path: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the images of a file with their right tags."""
    for number, line in enumerate(lines_of(path), start=1):
        image, equals, tags = line.rpartition("=")
        if not equals:
            raise UnreadableExamples(f"{path}: line {number} is not of the form: photo.jpg = cat")
        names = (" ".join(tag.split()).casefold() for tag in tags.split(","))
        yield image.strip(), frozenset(filter(None, names))


def lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableExamples(f"{path}: cannot be read: {error}") from error
    # Names of files in JSON may contain other characters that `splitlines` takes for line ends.
    return [line for line in text.split("\n") if line.strip()]


def scores_of(details: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the scores of a result's tags."""
    return {
        detail["tag"].casefold(): float(detail["score"])
        for detail in details
        if detail.get("score") is not None
    }


def calibrated_lines(
    tags: Sequence[VocabularyTag], examples: Sequence[ScoredExample]
) -> Iterator[str]:
    """Yield the lines of the vocabulary with its thresholds."""
    pairs = {tag: pairs_of(tag, examples) for tag in tags}
    common = best_threshold([pair for of_tag in pairs.values() for pair in of_tag])
    if common is not None:
        yield f"# tags.vocabulary_threshold = {common}"
    for tag, of_tag in pairs.items():
        enough = sum(is_right for _, is_right in of_tag) >= ENOUGH
        own = best_threshold(of_tag) if enough else None
        yield line_of(tag if own is None else replace(tag, threshold=own))


def pairs_of(tag: VocabularyTag, examples: Sequence[ScoredExample]) -> list[tuple[float, bool]]:
    """Return the score of a tag for each image, and whether it is right."""
    name = tag.text.casefold()
    return [(each.scores.get(name, LOWEST), name in each.right) for each in examples]


def best_threshold(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """Return the threshold with the greatest F1, or None if nothing is right.

    It is in the middle between the two scores that it parts.
    """
    ordered = sorted(pairs, reverse=True)
    total = sum(is_right for _, is_right in ordered)
    best, threshold, found = 0.0, None, 0
    for given, (score, is_right) in enumerate(ordered, start=1):
        found += is_right
        below = ordered[given][0] if given < len(ordered) else score
        f1 = 2 * found / (given + total)
        if (below < score or given == len(ordered)) and f1 > best:
            best, threshold = f1, round((score + max(below, score - 2)) / 2, DIGITS)
    return threshold


def line_of(tag: VocabularyTag) -> str:
    """Return the line of a tag in a file."""
    values = [str(value) for value in (tag.category, tag.threshold) if value is not None]
    return f"{tag.text} = {', '.join(values)}" if values else tag.text

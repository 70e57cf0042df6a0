"""What captiond says about the images of one request, as the dialects need it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from captiond.jobs import Captioned
from captiond.tags import Category, Kind, Tag


@dataclass(frozen=True, slots=True)
class Label:
    """A tag or a noun of a caption. `topicality` is 1 for the most salient, and less for others."""

    name: str
    lemma: str
    confidence: float | None
    topicality: float
    category: Category

    @property
    def categories(self) -> list[str]:
        """The names of its categories. OTHER is none."""
        return [] if self.category is Category.OTHER else [self.category.value]


@dataclass(frozen=True, slots=True)
class Findings:
    """The caption, tags and labels of an image, or of several images together.

    `captions` are the alternatives, best first. `tags` are those that the settings select, the most
    salient first. `labels` are the nouns among them, each as its lemma, or all tags if there is no
    noun.
    """

    caption: str
    captions: tuple[str, ...]
    confidence: float | None
    tags: tuple[Label, ...]
    labels: tuple[Label, ...]
    width: int
    height: int

    @classmethod
    def of(cls, outcome: Captioned) -> "Findings":
        """Return what is known about one image."""
        tags = outcome.tag_details
        named = [(label_name(tag), tag) for tag in tags if is_label(tag)]
        return cls(
            caption=outcome.caption,
            captions=tuple(each.text for each in outcome.captions) or (outcome.caption,),
            confidence=outcome.confidence,
            tags=labels_of((tag.tag, tag) for tag in tags),
            labels=labels_of(named or [(tag.lemma, tag) for tag in tags]),
            width=outcome.width,
            height=outcome.height,
        )

    @classmethod
    def together(cls, images: Sequence["Findings"]) -> "Findings":
        """Return what is known about several images: a line for each caption, and all tags."""
        first, *others = images
        if not others:
            return first
        known = [each.confidence for each in images if each.confidence is not None]
        return cls(
            caption="\n".join(each.caption for each in images),
            captions=tuple(map("\n".join, zip(*(each.captions for each in images), strict=False))),
            confidence=min(known, default=None),
            tags=unique(tag for each in images for tag in each.tags),
            labels=unique(tag for each in images for tag in each.labels),
            width=first.width,
            height=first.height,
        )

    @property
    def categories(self) -> list[str]:
        """The categories of all labels, each once."""
        return list(dict.fromkeys(name for each in self.labels for name in each.categories))


def is_label(tag: Tag) -> bool:
    """Return whether a tag names a thing: a noun does, and what the vocabulary gives."""
    return tag.kind is Kind.NOUN or tag.score is not None


def label_name(tag: Tag) -> str:
    """Return the name of a label: the lemma of a noun, or the whole tag of a vocabulary."""
    return tag.lemma if tag.score is None else tag.tag


def labels_of(named: Iterable[tuple[str, Tag]]) -> tuple[Label, ...]:
    """Return labels for tags in order of salience, each name once."""
    first: dict[str, tuple[str, Tag]] = {}
    for name, tag in named:
        first.setdefault(name.casefold(), (name, tag))
    return tuple(
        Label(
            name,
            tag.lemma,
            tag.confidence,
            round(1 - place / len(first), 4),
            tag.category,
        )
        for place, (name, tag) in enumerate(first.values())
    )


def unique(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Return the labels, each name once: as it comes first."""

    def kept() -> Iterator[Label]:
        names = set()
        for each in labels:
            if each.name.casefold() not in names:
                names.add(each.name.casefold())
                yield each

    return tuple(kept())

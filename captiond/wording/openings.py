"""Openings of captions that say nothing about the image, such as "there is" or "an image of"."""

import re

# A drawing or a painting is not in the list, because readers want to know that it is one.
PICTURE = (
    r"(?:stock )?(?:image|picture|pic|photo|photograph|snapshot)s?"
    r"|close ?-? ?up(?: (?:image|picture|photo|photograph|shot|view))?"
)
OPENING = re.compile(
    # "it is raining" and "this is how" say something; "it is a cat" does not.
    r"(?:(?:there (?:is|are)|(?:this|here|it) is(?= (?:an?|the|some|my|his|her|their|our) ))"
    rf"|(?:(?:an?|the|this|some) )?(?:{PICTURE}) (?:of|showing|shows|depicting|depicts)) (?=\S)",
    re.IGNORECASE,
)


def opening_length(caption: str) -> int:
    """Return how many characters the openings of a caption have together; 0 if it has none."""
    length = 0
    while opening := OPENING.match(caption, length):
        length = opening.end()
    return length


def without_opening(caption: str) -> str:
    """Return a caption from its first word on that says something about the image."""
    return caption[opening_length(caption) :]

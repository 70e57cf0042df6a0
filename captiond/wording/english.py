"""English words that show where a phrase begins, and what it cannot end with."""

import re

DETERMINERS = frozenset((
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my",
    "our", "your", "some",
))  # fmt: skip
AUXILIARIES = frozenset((
    "is", "are", "was", "were", "be", "being", "been", "has", "have", "had", "can", "will",
    "do", "does",
))  # fmt: skip
CONJUNCTIONS = frozenset((
    "and", "or", "but", "while", "as", "because", "if", "than", "so", "that", "which", "who",
    "where", "when",
))  # fmt: skip
PREPOSITIONS = frozenset((
    "about", "above", "across", "after", "against", "along", "alongside", "amid", "among",
    "around", "at", "atop", "before", "behind", "below", "beneath", "beside", "between",
    "beyond", "by", "down", "during", "for", "from", "in", "inside", "into", "like", "near",
    "of", "off", "on", "onto", "opposite", "out", "outside", "over", "past", "through", "to",
    "toward", "towards", "under", "underneath", "up", "upon", "via", "with", "within",
    "without",
))  # fmt: skip
FUNCTION_WORDS = DETERMINERS | AUXILIARIES | CONJUNCTIONS | PREPOSITIONS
# A sentence can end with most of them: "a plane taking off", "a dog with a toy to play with".
NEVER_LAST = frozenset((
    "a", "an", "the", "my", "our", "its", "their", "your", "of", "and", "or", "while",
    "because", "if", "than",
))  # fmt: skip
# Nouns in -ing. Other words in -ing begin a phrase: "wearing a hat".
NOUNS_IN_ING = frozenset((
    "awning", "beijing", "bling", "blessing", "boring", "building", "ceiling", "clothing",
    "crossing", "drawing", "dressing", "duckling", "dumpling", "dwelling", "earring",
    "evening", "everything", "fencing", "frosting", "icing", "interesting", "king", "landing",
    "lightning", "lining", "marking", "meeting", "morning", "nothing", "opening", "outing",
    "painting", "parking", "paving", "piercing", "plumbing", "pudding", "railing", "ring",
    "roofing", "seating", "setting", "shopping", "sibling", "siding", "sing", "sling",
    "something", "spring", "stocking", "string", "stuffing", "surrounding", "swing", "tubing",
    "viking", "wedding", "wing", "writing",
))  # fmt: skip
COLOURS = frozenset((
    "black", "white", "red", "green", "blue", "yellow", "orange", "purple", "pink", "brown",
    "gray", "grey", "gold", "silver", "beige", "tan",
))  # fmt: skip
# Several words that begin a phrase together. Others are single words.
COMPOUND = re.compile(
    r"\b(?:in front of|on top of|next to|close to|because of|out of|instead of|such as|along with"
    r"|in between|as well as|full of|filled with|covered (?:in|with)|surrounded by|made (?:of|from)"
    r"|(?:to|on|at|in|from|near|by|along|inside|around) (?:the|a|each|one) "
    r"(?:(?:left|right|other|far) )?(?:hand )?"
    r"(?:(?:side|middle|center|centre|back|front|top|bottom|edge|end|corner|base) )?of)\b",
    re.IGNORECASE,
)


def begins_phrase(word: str) -> bool:
    """Return whether a word begins another phrase of a sentence."""
    in_ing = len(word) > 5 and word.endswith("ing") and word not in NOUNS_IN_ING
    return in_ing or word == "," or word in PREPOSITIONS | CONJUNCTIONS | AUXILIARIES

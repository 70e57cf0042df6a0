"""The words that the rules must know of a language, beside its pipeline's own stop words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """All words are lemmas, in lower case.

    `generic` say only that there is a picture. `positions` say where something is: alone in their
    phrase they say nothing of what it is. `counts` are numbers that spaCy's stop words lack.
    `containers` stand before another phrase that is the subject: "a group of people".
    """

    generic: frozenset[str] = frozenset()
    positions: frozenset[str] = frozenset()
    counts: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES = {
    "en": Language(
        generic=_words("image picture photo photograph thing things stuff"),
        positions=_words("back bottom center centre front inside left middle outside rear right")
        | _words("side top"),
        counts=_words("seven thirteen fourteen sixteen seventeen eighteen nineteen thirty seventy")
        | _words("eighty ninety thousand million dozen"),
        containers=_words("array assortment batch bit bunch close-up closeup collection couple")
        | _words("crowd drawing flock group herd image line lot number pack painting pair photo")
        | _words("photograph picture piece pile portrait row school series set shot sketch slice")
        | _words("stack team variety view"),
    ),
    "de": Language(
        generic=_words("bild foto fotografie aufnahme abbildung ding dinge sache zeug"),
        positions=_words("hinten link linke links mitte oben recht rechte rechts rückseite seite")
        | _words("unten vorderseite vorne"),
        counts=_words("zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"),
        containers=_words("ansicht bild foto gruppe haufen menge paar reihe stapel stück"),
    ),
    "es": Language(
        generic=_words("imagen foto fotografía cosa cosas"),
        positions=_words("atrás centro derecha izquierda lado medio parte"),
        counts=_words("cuatro cinco seis siete ocho nueve diez once doce"),
        containers=_words("conjunto foto grupo imagen montón par pila vista"),
    ),
    "fr": Language(
        generic=_words("image photo photographie chose choses truc"),
        positions=_words("arrière avant centre côté droite gauche haut milieu"),
        counts=_words("trois quatre cinq six sept huit neuf dix onze douze"),
        containers=_words("ensemble groupe image paire photo pile tas vue"),
    ),
    "it": Language(
        generic=_words("immagine foto fotografia cosa cose roba"),
        positions=_words("centro destra lato mezzo parte sinistra"),
        counts=_words("due tre quattro cinque sei sette otto nove dieci"),
        containers=_words("coppia foto gruppo immagine mucchio pila vista"),
    ),
    "nl": Language(
        generic=_words("afbeelding beeld foto ding dingen spul"),
        positions=_words("achterkant boven links midden onder rechts voorkant zijkant"),
        counts=_words("twee drie vier vijf zes zeven acht negen tien"),
        containers=_words("foto groep paar rij stapel stuk verzameling"),
    ),
    "pt": Language(
        generic=_words("imagem foto fotografia coisa coisas"),
        positions=_words("centro direita esquerda frente lado meio parte"),
        counts=_words("dois duas três quatro cinco seis sete oito nove dez"),
        containers=_words("conjunto foto grupo imagem par pilha vista"),
    ),
}


def language_words(code: str) -> Language:
    """The words of a language by its code, `pt-br` as `pt`; none where nobody has written them."""
    return LANGUAGES.get(code) or LANGUAGES.get(code.partition("-")[0], Language())

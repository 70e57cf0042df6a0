"""The words of each language that the tag rules need, besides the stop words of its pipeline."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LanguageWords:
    """Words of one language with a special role in the tag rules: lemmas in lower case.

    `generic`: words that say only that there is a picture.
    `positions`: words that say where something is. A phrase of such words alone is not a tag.
    `counts`: numbers that are missing from spaCy's stop words.
    `containers`: words that precede the phrase of the subject: "a group of people".
    """

    generic: frozenset[str] = frozenset()
    positions: frozenset[str] = frozenset()
    counts: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES = {
    "en": LanguageWords(
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
    "de": LanguageWords(
        generic=_words("bild foto fotografie aufnahme abbildung ding dinge sache zeug"),
        positions=_words("hinten link linke links mitte oben recht rechte rechts rückseite seite")
        | _words("unten vorderseite vorne"),
        counts=_words("zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"),
        containers=_words("ansicht bild foto gruppe haufen menge paar reihe stapel stück"),
    ),
    "es": LanguageWords(
        generic=_words("imagen foto fotografía cosa cosas"),
        positions=_words("atrás centro derecha izquierda lado medio parte"),
        counts=_words("cuatro cinco seis siete ocho nueve diez once doce"),
        containers=_words("conjunto foto grupo imagen montón par pila vista"),
    ),
    "fr": LanguageWords(
        generic=_words("image photo photographie chose choses truc"),
        positions=_words("arrière avant centre côté droite gauche haut milieu"),
        counts=_words("trois quatre cinq six sept huit neuf dix onze douze"),
        containers=_words("ensemble groupe image paire photo pile tas vue"),
    ),
    "it": LanguageWords(
        generic=_words("immagine foto fotografia cosa cose roba"),
        positions=_words("centro destra lato mezzo parte sinistra"),
        counts=_words("due tre quattro cinque sei sette otto nove dieci"),
        containers=_words("coppia foto gruppo immagine mucchio pila vista"),
    ),
    "nl": LanguageWords(
        generic=_words("afbeelding beeld foto ding dingen spul"),
        positions=_words("achterkant boven links midden onder rechts voorkant zijkant"),
        counts=_words("twee drie vier vijf zes zeven acht negen tien"),
        containers=_words("foto groep paar rij stapel stuk verzameling"),
    ),
    "pt": LanguageWords(
        generic=_words("imagem foto fotografia coisa coisas"),
        positions=_words("centro direita esquerda frente lado meio parte"),
        counts=_words("dois duas três quatro cinco seis sete oito nove dez"),
        containers=_words("conjunto foto grupo imagem par pilha vista"),
    ),
}


def language_words(code: str) -> LanguageWords:
    """Return the words of the language with this code; `pt-br` is treated as `pt`.

    A language without an entry has no special words.
    """
    return LANGUAGES.get(code) or LANGUAGES.get(code.partition("-")[0], LanguageWords())

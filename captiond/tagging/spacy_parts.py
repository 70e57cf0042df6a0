"""What captiond uses of spaCy. All modules import it from here.

spaCy imports its own command line, with programs that train pipelines and download them. This is a
third of its import time, and captiond uses none of it.
"""

from captiond.left_out import left_out

with left_out(stubs=("spacy.cli", "spacy.cli.info")):
    import spacy
    from spacy.language import Language
    from spacy.tokenizer import Tokenizer
    from spacy.tokens import Doc, Token

__all__ = ["Doc", "Language", "Token", "Tokenizer", "spacy"]

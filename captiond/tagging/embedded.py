"""The tag pipeline that captiond is shipped with. This module does not import spaCy."""

from pathlib import Path

EMBEDDED = {"captiond/english": Path(__file__).resolve().parent.parent / "embedded" / "english"}

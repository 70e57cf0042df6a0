"""Captions in other languages: models that translate them, and dictionaries of tags."""

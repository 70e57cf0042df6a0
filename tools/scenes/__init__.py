"""Drawn scenes and their captions, on which the embedded model captiond/scenes is trained."""

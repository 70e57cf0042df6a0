"""Drawn scenes and their captions: what the embedded model captiond/scenes is trained on."""

"""The wording of captions: what is changed in the text that a model has written. Pure."""

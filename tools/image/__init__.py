"""Programs that run while a container image is built, with the standard library only."""

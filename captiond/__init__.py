"""captiond: captions and tags for images, over HTTP."""

__version__ = "0.1.0"

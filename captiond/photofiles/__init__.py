"""Captions and tags where photo programs look for them: in XMP files and in image files."""

"""The operations on tasks: accept, show, cancel."""

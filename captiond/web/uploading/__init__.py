"""From the body of a request to a form whose images are in the spool."""

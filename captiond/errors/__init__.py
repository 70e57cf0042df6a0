"""All errors that captiond raises on purpose, with one base class and one stable code for each.

A code is part of the API: it is `"code"` in the body of an error and in the result of a bad image.
A code never changes, and no two errors share one. The message says what a person can do.

The modules of this package group the errors. Each error can be imported from here.
"""

from captiond.errors.captiond_error import *
from captiond.errors.command_errors import *
from captiond.errors.image_errors import *
from captiond.errors.model_errors import *
from captiond.errors.request_errors import *
from captiond.errors.service_errors import *
from captiond.errors.storage_errors import *

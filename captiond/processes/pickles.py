"""How messages become bytes: by pickle, and what is sent for each image in a short form.

Python's own way for a frozen dataclass with slots calls functions that look each field up by its
name. The class and its values alone take half of the time. Beside a fast GPU, the time of a model
process's event loop is what limits the service.
"""

import copyreg
import pickle
from dataclasses import fields
from operator import attrgetter
from typing import Any

from captiond.clients import Client, RequestOrigin
from captiond.jobs import Captioned, Generation, Options, Refused, SearchRules, SpooledImage
from captiond.messages import Answer, Ask, Decode, Finished, Message, Timings, Work
from captiond.tags import Tag, TagOptions

MESSAGES = (Answer, Ask, Decode, Finished, Work)
PARTS = (
    Captioned, Client, Generation, Options, Refused, RequestOrigin, SearchRules, SpooledImage, Tag,
    TagOptions, Timings,
)  # fmt: skip


def pickled(message: Message) -> bytes:
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def unpickled(body: bytes) -> Message:
    """Return the message that `pickled` got."""
    message: Message = pickle.loads(body)  # noqa: S301 - sent by our own child or parent
    return message


def pickle_by_values(record: type[Any]) -> None:
    """Let objects of a dataclass with two or more fields be pickled as their class and values.

    To unpickle one, the class is called with the values.
    """
    values = attrgetter(*(field.name for field in fields(record)))
    copyreg.pickle(record, lambda one: (record, values(one)))


for each in (*MESSAGES, *PARTS):
    pickle_by_values(each)

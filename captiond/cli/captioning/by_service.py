"""Caption image files by a service, over HTTP."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Unpack

import msgspec
from rich.console import Console

from captiond.cli.captioning.command import Captioner, Result, failed_result, problem_result
from captiond.cli.captioning.picture_files import FoundFile
from captiond.client import Captiond, ImageCaption, RequestRefused, RetryPolicy, ServiceError
from captiond.client.caption_options import CaptionOptions
from captiond.errors import CaptiondError

FILES_OF_A_REQUEST = 16
AT_FIRST = RetryPolicy(seconds=2)
REQUESTS_AT_ONCE = 4  # so that the service always has the next images
FIELDS = (
    "caption", "tags", "error", "caption_language", "caption_en", "model", "score", "confidence",
    "alt_text", "raw_caption", "notes", "tag_details", "width", "height",
)  # fmt: skip
SOMETIMES = ("caption_language", "caption_en", "notes")
# Another file would be refused as well.
FATAL_STATUSES = frozenset({401, 403, 404, 405, 429, 503})


def by_service(url: str, key: str | None, **options: Unpack[CaptionOptions]) -> Captioner:
    """Return the way to caption files by the service at `url`.

    The results raise CaptiondError if the service cannot be reached, or refuses every request.
    """

    @contextmanager
    def caption(files: list[FoundFile], _: Console) -> Iterator[Iterable[list[Result]]]:
        pool = ThreadPoolExecutor(REQUESTS_AT_ONCE)
        try:
            check_service(url)
            with Captiond(url, key=key) as service:
                yield in_order(files, service, options, pool)
        except ServiceError as error:
            raise CaptiondError(str(error)) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    return caption


def check_service(url: str) -> None:
    """Return if a captiond service answers at this address.

    Later calls are repeated for minutes, since a service may be restarted while it works. At the
    beginning, a mistake in the address is more likely.

    Raises:
        ServiceError: none answers.
    """
    with Captiond(url, retry=AT_FIRST) as service:
        service.version()


def in_order(
    files: list[FoundFile], service: Captiond, options: CaptionOptions, pool: Executor
) -> Iterator[list[Result]]:
    """Yield the results of each request. The next requests are already under way."""
    waiting = iter(files)
    under_way: deque[Future[list[Result]]] = deque()
    while True:
        while len(under_way) < REQUESTS_AT_ONCE:
            if not (some := list(islice(waiting, FILES_OF_A_REQUEST))):
                break
            under_way.append(pool.submit(results_of, some, service, options))
        if not under_way:
            return
        yield under_way.popleft().result()


def results_of(files: list[FoundFile], service: Captiond, options: CaptionOptions) -> list[Result]:
    """Return the results of some files, by one request if possible.

    If the request is refused as a whole, or if a file cannot be read any more, each file gets a
    request of its own.
    """
    readable = [found for found in files if not found.problem]
    try:
        captions = iter(caption_some(readable, service, options))
    except (RequestRefused, OSError) as error:
        if isinstance(error, RequestRefused) and error.status in FATAL_STATUSES:
            raise
        captions = iter([caption_alone(found, service, options) for found in readable])
    return [problem_result(found) if found.problem else next(captions) for found in files]


def caption_some(
    files: list[FoundFile], service: Captiond, options: CaptionOptions
) -> list[Result]:
    """Return the results of one request."""
    if not files:
        return []
    results = service.caption_many([found.path for found in files], **options)
    return [fields(found, result) for found, result in zip(files, results, strict=True)]


def caption_alone(found: FoundFile, service: Captiond, options: CaptionOptions) -> Result:
    """Return the result of one file."""
    try:
        return fields(found, service.caption(found.path, **options))
    except OSError as error:
        return problem_result(found, error.strerror or str(error))
    except RequestRefused as error:
        if error.status in FATAL_STATUSES:
            raise
        return failed_result(found.path, error.detail, error.code)


def fields(found: FoundFile, result: ImageCaption) -> dict[str, Any]:
    """Return a result with the fields that a result of this process has, and its path here."""
    if not result.succeeded:
        return failed_result(found.path, result.error or "", result.code or "")
    known = msgspec.to_builtins(result)
    some = {name: known[name] for name in FIELDS if name not in SOMETIMES or known[name]}
    return {"image_path": str(found.path), **some}

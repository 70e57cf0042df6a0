"""The text that stands at the beginning of the OpenAPI document. It is Markdown."""

from captiond.web.problems import HTTP_CODES

INTRODUCTION = f"""\
captiond writes captions and tags for images. `POST /caption` answers with the caption of one \
image, and `POST /async-batch-caption` accepts a task of many images that is finished later.

**Keys.** If the service has keys, the operations on captions and tasks need one, in the header \
`Authorization: Bearer` or `X-API-Key`. A service without keys ignores both headers.

**Request ids.** Every response has the header `X-Request-ID`. A client can send its own id in the \
header of the same name: 1 to 64 letters, digits, dots, hyphens and underscores.

**Errors.** Every error has a `code` for programs, which never changes, and a `detail` for people. \
A path that does not exist is answered with 404 and the code `{HTTP_CODES[404]}`, a method that a \
path does not have with 405, the code `{HTTP_CODES[405]}` and the header `Allow`. If another try \
may succeed, the response has the header `Retry-After`, in seconds.

**Limits.** The operator can limit the requests, the waiting images and the bytes of each client. \
A request over a limit is answered with 429. A request that finds a queue full is answered with \
503.

**HEAD.** Every path with GET has HEAD as well, with the same headers and no body.
"""

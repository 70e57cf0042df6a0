"""What the fields of JSON bodies mean.

A field means the same wherever it occurs, so most of them are described by their name alone. A
field whose type has a `description` in its `pydantic.Field` needs no entry here. A test fails if a
field has no description.
"""

FIELDS = {
    "cached": "Whether the caption comes from the cache.",
    "caption": "The caption. If there are several, it is the first of them.",
    "captions": "All captions of the image, the best one first. The field is there if the request "
    "asks for more than one.",
    "category": "What the tag is about.",
    "code": "The stable name of the error, for programs.",
    "created_at": "When the task was accepted (RFC 3339, UTC).",
    "detail": "What is wrong, for people. It is a list if fields of the request are missing or "
    "wrong.",
    "done": "The number of images that are finished.",
    "end": "Where the tag ends in the caption: the position after its last character.",
    "error": "Why the image has no caption, for people. It is null if the image has one.",
    "error_details": "Always null. The errors of images are in their results.",
    "failed": "The number of finished images that have no caption.",
    "fallback": "Whether another model than the one of the settings is in use.",
    "filename": "The name of the file, as the client has sent it.",
    "finished_at": "When the task was finished (RFC 3339, UTC), or null.",
    "height": "The height of the upright image in pixels.",
    "image_path": "The name of the file, as the client has sent it.",
    "input": "The value that is wrong, or null if it is missing.",
    "kind": "The rule that the tag comes from.",
    "lemma": "The basic form of the tag's main word.",
    "loc": "Where the field is: `body` or `query`, and its name.",
    "message": "A sentence for people about the task.",
    "model": "The name of the model that has written the caption.",
    "msg": "What is wrong with the field.",
    "next_offset": "The `offset` of the next part, or null after the last one. The field is there "
    "if the request asks for a part of the results.",
    "processing_time": "How long the request took, in seconds.",
    "progress": "How many of the task's images are finished.",
    "reasons": "Why no image can be captioned now.",
    "request_id": "The id of the request, which is also in its log entry and in `X-Request-ID`.",
    "response_time": "How long the answer took, in milliseconds, with the unit.",
    "result": "The results of the finished images in upload order, or null while all images wait.",
    "results": "One result for each image, in upload order.",
    "score": "The mean log-probability of the caption's tokens. It is 0 at most.",
    "service": "The name of the service.",
    "sha256": "The SHA-256 of the file in hexadecimal, or null if the file was refused.",
    "start": "Where the tag begins in the caption, in characters from 0 on.",
    "started_at": "When the first image of the task was begun (RFC 3339, UTC), or null.",
    "status": "The state.",
    "tag": "The tag.",
    "tag_details": "More about each tag, in the order of the caption.",
    "tags": "The tags of the caption in alphabetical order.",
    "task_id": "The id of the task.",
    "timestamp": "The time of the answer in Unix seconds.",
    "total": "The number of images.",
    "total_processing_time": "How long the request took, in seconds.",
    "type": "The kind of the problem.",
    "version": "The version of the service.",
    "warning": "What an operator should know about the model in use.",
    "width": "The width of the upright image in pixels.",
    "HealthReport.model": "The name of the model in use.",
    "HealthReport.status": "Whether images can be captioned.",
    "ProbeStatus.status": "`alive` or `ready`.",
    "ScoredCaption.caption": "One of the captions.",
    "TaskProgress.total": "The number of images of the task.",
    "TaskStatus.status": "The state of the task. The last three are final: COMPLETED has at least "
    "one caption, FAILED has none, and CANCELLED was cancelled by a client.",
}


def text_of(schema: str, field: str) -> str | None:
    """Return what a field of a schema means, or None if nobody has said so."""
    return FIELDS.get(f"{schema}.{field}", FIELDS.get(field))

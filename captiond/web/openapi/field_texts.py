"""What the fields of JSON bodies mean.

A field means the same in all types of captiond's own operations, so most of them are described by
their name alone. A field whose type has a `description` in its `pydantic.Field` needs no entry
here. A test fails if a field has no description. The fields of dialects are not described here.
"""

FIELDS = {
    "alt_text": "An alternative text for the image: the caption as one sentence, see "
    "docs/alt-text.md. It is null for a blank caption, and for results of earlier versions.",
    "batch_size": "The largest number of images in a batch.",
    "body_bytes": "The size of a request body in bytes.",
    "cached": "Whether the caption comes from the cache.",
    "caption": "The caption. If there are several, it is the first of them.",
    "caption_en": "The English caption, if the caption was translated. `start` and `end` of a tag "
    "count its characters.",
    "caption_language": "The language of the caption, if it was translated.",
    "caption_languages": "The languages of captions that a request can choose.",
    "captions": "All captions of the image, the best one first. The field is there if the "
    "request asks for more than one.",
    "categories": "The categories of tags.",
    "category": "What the tag is about.",
    "clients": "The limits of one client.",
    "code": "The stable name of the error, for programs.",
    "complete": "Whether the task is finished, so that there will be no other results.",
    "concurrent": "The number of requests at the same time.",
    "confidence": "How sure the model is, between 0 and 1: the mean probability of the words, see "
    "docs/captions.md. It is null for results of earlier versions.",
    "created_at": "When the task was accepted (RFC 3339, UTC).",
    "default_caption_language": "The language of the captions if the request names none.",
    "default_language": "The language of the tags if the request names none.",
    "detail": "What is wrong, for people. It is a list if fields of the request are missing "
    "or wrong.",
    "device": "The device that the model runs on.",
    "done": "The number of images that are finished.",
    "error_details": "Always null. The errors of images are in their results.",
    "eta_seconds": "In how many seconds the task will be finished, if the present speed lasts. The "
    "field is there while the task waits and the speed is known.",
    "failed": "The number of finished images that have no caption.",
    "fallback": "Whether another model than the one of the settings is in use.",
    "file_bytes": "The size of a file in bytes.",
    "filename": "The name of the file, as the client has sent it.",
    "files": "The number of files in a request.",
    "finished_at": "When the task was finished (RFC 3339, UTC), or null.",
    "height": "The height of the upright image in pixels.",
    "hint": "What to send instead. The field is there if the request shows a misunderstanding.",
    "image_path": "The name of the file, as the client has sent it.",
    "image_types": "The types of images that are accepted.",
    "images_per_second": "How many images of tasks are finished in a second. The field is there "
    "once this was measured.",
    "input": "The value that is wrong, or null if it is missing.",
    "items": "The tasks, the newest first.",
    "kind": "The rule that the tag comes from.",
    "kinds": "The kinds of tags.",
    "languages": "The languages of the tags.",
    "lemma": "The basic form of the tag's main word.",
    "limits": "What a request and a client may have.",
    "loc": "Where the field is: `body` or `query`, and its name.",
    "message": "A sentence for people about the task.",
    "model": "The name of the model that has written the caption.",
    "msg": "What is wrong with the field.",
    "name": "The name.",
    "next": "The `cursor` of the next part, or null after the last one.",
    "next_offset": "The `offset` of the next part, or null after the last one. The field is there "
    "if the request asks for a part of the results.",
    "notes": "Which options had no effect, such as words of the prompt that the model does not "
    "know. The field is there if there are any.",
    "options": "The options of a request that the model supports.",
    "pixels": "The number of pixels of an image.",
    "position": "Which image of the task it is: its place in upload order, from 0 on.",
    "precision": "The format of the model's numbers.",
    "processing_time": "How long the request took, in seconds.",
    "progress": "How many of the task's images are finished.",
    "queue": "The images of tasks that are not finished.",
    "queue_position": "How many images are finished before the first one of the task. The field is "
    "there while the task waits.",
    "raw_caption": "The caption as the model has written it, before the rules of `[captions]` "
    "change it, see docs/captions.md.",
    "reasons": "Why no image can be captioned now.",
    "request_id": "The id of the request, which is also in its log entry and in `X-Request-ID`.",
    "request_seconds": "How long an image that a client waits for may take.",
    "requested": "The model that the settings name. It is `name` unless that is a fallback.",
    "requests": "The number of requests in a window.",
    "response_time": "How long the answer took, in milliseconds, with the unit.",
    "result": "The results of the finished images in upload order, or null while all images wait.",
    "results": "One result for each image, in upload order.",
    "score": "The mean log-probability of the caption's tokens: 0 or less.",
    "service": "The name of the service.",
    "sha256": "The SHA-256 of the file in hexadecimal, or null if the file was refused.",
    "started_at": "When the first image of the task was claimed (RFC 3339, UTC), or null.",
    "status": "The state.",
    "tag": "The tag.",
    "tag_en": "The tag in English, if the tag was translated.",
    "tag_details": "More about each tag, in the order of the caption.",
    "tags": "The tags of the caption in alphabetical order.",
    "task_id": "The id of the task.",
    "timestamp": "The time of the answer in Unix seconds.",
    "total": "The number of images.",
    "total_processing_time": "How long the request took, in seconds.",
    "type": "The kind of the problem.",
    "upload_seconds": "How long a request body may take to arrive.",
    "version": "The version of the service.",
    "wait_seconds": "The largest value of `wait`.",
    "warning": "What an operator should know about the model in use.",
    "width": "The width of the upright image in pixels.",
    "window_seconds": "The length of the window in which requests are counted.",
    "CaptionedEvent.error": "Always null.",
    "CaptionedResult.error": "Always null.",
    "ClientLimits.body_bytes": "The bytes of request bodies at the same time.",
    "ClientLimits.images": "The number of images that wait at the same time.",
    "FailedEvent.caption": "Always null.",
    "FailedEvent.error": "Why the image has no caption, for people.",
    "FailedEvent.tags": "Always null.",
    "FailedResult.caption": "Always null.",
    "FailedResult.error": "Why the image has no caption, for people.",
    "FailedResult.tags": "Always null.",
    "HealthReport.model": "The name of the model in use.",
    "HealthReport.status": "Whether images can be captioned.",
    "ProbeStatus.status": "`alive` or `ready`.",
    "QueueDescription.images": "The number of images that wait or are captioned.",
    "ReconnectEvent.detail": "Why the stream ends.",
    "ScoredCaption.caption": "One of the captions.",
    "ServiceInfo.model": "The model that captions, or null until one was loaded.",
    "ServiceInfo.status": "Whether images can be captioned, as in `/health`.",
    "ServiceInfo.tags": "What tags there can be.",
    "TagDetail.end": "Where the tag ends in the caption: the position after its last character. "
    "It is null for a tag that only the vocabulary gives.",
    "TagDetail.score": "How much likelier the image makes a tag of the vocabulary, in nats, see "
    "docs/vocabulary.md. The field is there if the vocabulary gives the tag.",
    "TagDetail.start": "Where the tag begins in the caption, in characters from 0 on. It is null "
    "for a tag that only the vocabulary gives.",
    "TaskItem.status": "The state of the task.",
    "TaskProgress.total": "The number of images of the task.",
    "TaskStatus.status": "The state of the task. The last three are final: COMPLETED has at least "
    "one caption, FAILED has none, and CANCELLED was cancelled by a client.",
}


def text_of(schema: str, field: str) -> str | None:
    """Return what a field of a schema means, or None if there is no text about it."""
    return FIELDS.get(f"{schema}.{field}", FIELDS.get(field))

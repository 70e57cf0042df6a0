"""What the events of the log mean, for docs/log-events.md."""

COMMON_FIELDS = {
    "event": "The name of the event. It never has a value in it, so it can be searched for.",
    "level": "`debug`, `info`, `warning` or `error`.",
    "timestamp": "The time: UTC in JSON, local time in text for people.",
    "process": "The process: `supervisor`, or the name of a web or model process, such as "
    "`model0-1f2e3d4c`. A replacement gets another ending.",
    "request_id": "The request that the entry is about, in all processes. It is also the header "
    "`X-Request-ID` of the response. For images of tasks, it is the request that sent the task.",
    "task_id": "The task that the entry is about, without the end of its id: whoever has the whole "
    "id can read the task.",
    "request_ids, task_ids": "The same for an entry about a batch, of the first eight.",
    "trace_id": "The trace of the request, if traces are on ([tracing.md](tracing.md)).",
    "exception": "The traceback of an error that captiond did not expect.",
}
# Fields that calls add by a dictionary, which the code does not show.
MORE_FIELDS = {
    "accept_failed": ("times", "reason"),
    "client_gone": ("key", "code", "reason"),
    "connections_evicted": ("times", "limit"),
    "decoder_printed": ("suppressed",),
    "decoding_too_slow": ("suppressed",),
    "model_ready": ("linear",),
    "processing_time": ("total", "upload", "decode", "queue", "model", "tags", "other"),
    "request": ("key", "code", "reason"),
    "webhook_delivered": ("task_id", "import_id"),
    "webhook_failed": ("task_id", "import_id"),
    "webhook_given_up": ("task_id", "import_id"),
}
TEXTS = {
    "accept_failed": "Connections could not be accepted, mostly because descriptors ran out. "
    "captiond tries again. `times` is how often it has happened since the last such entry.",
    "alternative_with_other_result": "A way to compute was measured and not chosen, because its "
    "result differs.",
    "answer_broken_off": "The database failed while the results of a task were sent. The client "
    "sees that they are not complete.",
    "batch": "A batch was captioned. `idle` is how long the model waited before it, by cause.",
    "batch_size_tried": "A batch size was measured at the first start.",
    "cache_entry_unreadable": "A caption in the cache is damaged. The image is captioned again.",
    "cache_unreadable": "The caption cache could not be read. The image is captioned.",
    "cache_unwritable": "Captions could not be stored in the cache. Their images have them.",
    "child_started": "A child process was started.",
    "client_gone": "A client disconnected before its response was complete. Its images are "
    "withdrawn.",
    "code_changed": "With `--reload`: a file of captiond has changed, and the service starts anew.",
    "connection_failed": "A connection ended because of a fault in captiond.",
    "connections_allowed": "The largest number of connections of a web process.",
    "connections_evicted": "All connections were in use, and some that waited for their client "
    "were closed. `times` is how many were closed since the last such entry.",
    "data_folder_made_private": "Other users had rights on the data folder. captiond has taken "
    "them away.",
    "data_folder_open_to_other_users": "Other users can read the data folder, and captiond cannot "
    "change that.",
    "decoder_box_incomplete": "The kernel lacks parts of the protection of image decoders.",
    "decoder_died": "An image decoder died, and is replaced. `blame` are the points of its image: "
    "with 6 of them it fails with `poison_image`.",
    "decoder_not_started": "An image decoder could not be started. captiond tries again.",
    "decoder_printed": "A library has printed something while it decoded an image, whose SHA-256 "
    "is `image`. At most one entry a minute has the level info; `suppressed` counts the others.",
    "decoder_reply_malformed": "An image decoder has sent a malformed reply. It is killed.",
    "decoding_too_slow": "An image takes more than `[images] decode_seconds`, and fails with "
    "`image_too_slow`.",
    "drain_overdue": "A process did not finish within `[server] shutdown_seconds`, and is killed.",
    "draining": "The service stops. It finishes what it can within the deadline.",
    "expired_lease_requeued": "Images that a dead node had claimed were requeued.",
    "handler_failed": "A request ended because of a fault in captiond, outside of the request's "
    "handler.",
    "image_assigned": "An image was sent to a model process.",
    "image_finished": "A model process has finished an image. `outcome` is captioned, cached, "
    "withdrawn or the error's code; `seconds` is the time since its acceptance.",
    "image_not_handed_over": "There was no memory to give an image to its decoder. It fails with "
    "`spool_error`, and can be retried.",
    "keys_changed": "The valid keys have changed. The service uses the new ones.",
    "keys_damaged": "Keys in the database cannot be read, and are refused.",
    "keys_unreadable": "Keys could not be read again. Those that were read last stay valid.",
    "lease_lost": "This node was cut off from the database or suspended for longer than its lease. "
    "Other nodes may have its images, so it drops them.",
    "listening": "The service accepts connections at this address.",
    "listening_interrupted": "The connection for notifications of PostgreSQL was lost. captiond "
    "opens another one, and polls the database every few seconds meanwhile.",
    "machine_measured": "The ways to compute were measured, and the fastest are used. `trusted` is "
    "false if the machine was busy.",
    "memory_not_pinned": "The driver cannot pin memory. Copies of images to the GPU take longer.",
    "metrics_not_written": "The file of metrics could not be written.",
    "model_died": "A model process died. Its images are requeued, and it is replaced. The ids are "
    "those of the images that it was captioning. The exit code -9 means that it was killed, often "
    "because the machine was out of memory.",
    "model_download": "A model is being downloaded.",
    "model_fallback": "The model of the settings is not available, and the fallback captions.",
    "model_hung": "A model process was silent or took too long for a batch, and is killed. "
    "`stopped` is true if somebody had suspended it.",
    "model_not_ready": "A model process cannot load its model. `code` is one of "
    "[errors.md](errors.md).",
    "model_not_started": "A model process could not load its model for an unexpected reason. "
    "captiond tries again.",
    "model_ready": "A model process captions from now on. Further fields show how it computes.",
    "no_cuda_graph": "The model's steps could not be captured as CUDA graphs. Without them it is "
    "slower.",
    "no_gpu_resize": "Images cannot be resized on the GPU. The image decoders do it.",
    "no_keys": "The service listens on more than the loopback address, and has no keys.",
    "no_node_captions": "This node has no model, and no node with one captions now. `reason` is "
    "what they report.",
    "no_tagger_for_language": "Captions have no tags because their language has no pipeline.",
    "no_triton_kernels": "Triton does not work here. Operations of torch are slower.",
    "not_answered": "A group of database operations failed because of a fault in captiond.",
    "notes_not_written": "What was measured could not be stored. The next start measures again.",
    "notice_unreadable": "Another node has sent a notice that this version does not know. Polling "
    "finds the same.",
    "other_version_installed": "Another version of captiond was installed while the service runs, "
    "so a process that died cannot be replaced. Restart the service.",
    "out_of_memory": "The device had too little memory for a batch. The batch is halved, or "
    "resized again after unused memory has been freed.",
    "outcome_refused": "The database refuses the result of an image, which fails instead.",
    "process_not_started": "A process could not be started. captiond tries again.",
    "processing_time": "How long each step of one image of /caption took, in milliseconds.",
    "recovered": "At the start, images that an earlier run had claimed were requeued.",
    "request": "A request was answered. Successful requests of probes, polls, metrics and files of "
    "the page have the level debug. `ms` is its duration, `key` the name of its key, `code` that "
    "of its error; a response with 5xx has its `reason`.",
    "request_failed": "A request failed because of a fault in captiond, and was answered with 500.",
    "requeued": "The images that a model process had claimed wait again. `poison` is how many of "
    "them failed, and `blamed` how many got points of blame.",
    "retention": "Expired tasks, captions and files were removed.",
    "retry_files_released": "Files that were kept for a retry were removed, because `[retention] "
    "retry_bytes` was exceeded.",
    "shard_finished": "The results of a shard of an import are written.",
    "shard_lost": "A shard of an import was captioned after its claim had ended, for example on a "
    "machine that was suspended, or after its import was cancelled. Another process has the shard "
    "now, and captions it again, unless the import is cancelled.",
    "shard_refused": "This machine cannot read the images of a shard of an import, or cannot write "
    "its results. The shard waits for another machine, and this one leaves the import alone for a "
    "while.",
    "shards_released": "A model process has exited. The shards of imports that it had claimed wait "
    "again.",
    "spool_file_not_removed": "A spool file could not be removed. captiond tries again later.",
    "spool_not_cleaned": "Spool files could not be removed. captiond tries again later.",
    "spool_swept": "At the start, files that no task needs were removed from the spool.",
    "standby_not_started": "A replacement for a model process could not be started in advance. A "
    "model process that dies is then replaced later.",
    "storage_failing": "An operation of the supervisor fails because of the database or the disk. "
    "captiond tries again. There is one entry for each reason.",
    "storage_recovered": "The operation works again.",
    "store_waits": "Something must be stored or read, and the database cannot do it now. captiond "
    "tries until it can.",
    "tagging_failed": "A caption could not be tagged. Its image has the caption without tags.",
    "tagging_failed_for_batch": "A batch of captions could not be tagged at once. They are tagged "
    "one by one.",
    "tasks_not_read": "Tasks that clients wait for could not be read. captiond tries again.",
    "temporary_folder": "There is no writable folder for temporary files, so captiond uses one in "
    "its data folder.",
    "tracing_unavailable": "The variables of OpenTelemetry ask for traces, but traces are not "
    "possible. The service runs without them.",
    "transaction_repeated": "A transaction was rolled back, because another one was in its way or "
    "its connection was lost. captiond repeats it a few times.",
    "translation_failed": "Captions could not be translated at once. They are translated one by "
    "one. One that cannot be translated stays in English.",
    "translation_not_started": "The model of a language could not be started. Captions in this "
    "language are in English.",
    "translation_out_of_memory": "The device had too little memory to translate a batch. The batch "
    "is halved.",
    "translation_unavailable": "The model of a language is missing or broken. Captions in this "
    "language are in English. `captiond check` shows the reason as well.",
    "tuning_record_ignored": "What an earlier start measured is damaged. It is measured again.",
    "unanswered_claim_requeued": "The answer to a claim was lost with the connection to the "
    "database. The images that it had claimed wait again.",
    "upload_not_stored": "The object storage has not taken the upload of a task. Its client got "
    "503.",
    "uploads_not_checked": "At the start, the object storage could not be asked whether another "
    "service uses this `[uploads] url`. captiond asks again before it removes files.",
    "uploads_not_readable": "Images of tasks cannot be fetched from the object storage. They wait, "
    "and captiond tries again.",
    "uploads_readable_again": "Images of tasks can be fetched from the object storage again.",
    "variables_without_effect": "Variables of the service that captiond replaces are set, and have "
    "no effect. The field names those of captiond.",
    "watchdog_withheld": "No image was finished although images wait. So captiond does not report "
    "to systemd that it works, and systemd restarts it.",
    "web_died": "A web process died, and is replaced. Its connections are lost; tasks are not.",
    "web_hung": "A web process was silent for a minute, and is killed. `stopped` is true if "
    "somebody had suspended it.",
    "webhook_broken": "A webhook failed because of a fault in captiond. captiond tries again.",
    "webhook_delivered": "A receiver has accepted a webhook.",
    "webhook_failed": "A receiver has not accepted a webhook. captiond tries again.",
    "webhook_given_up": "A receiver has not accepted a webhook in all attempts.",
    "webhook_waits": "A webhook could not be sent because the database cannot be read.",
    "webhooks_given_up": "Webhooks were given up because they are too old.",
    "webhooks_on": "Webhooks are on, for these hosts.",
}

"""Turns the parts of a body into a form."""

from functools import partial

from captiond.errors import FileTooLarge, ImageError, MalformedBody, TooManyFiles
from captiond.jobs import Refused
from captiond.metrics import FILES_REFUSED
from captiond.spool import SpoolWriter
from captiond.web.services import Services
from captiond.web.uploading.formparts import (
    TAKEN,
    FieldPart,
    FilePart,
    IgnoredFile,
    OtherField,
    Part,
    PathPart,
    check_head,
    shown,
)
from captiond.web.uploading.forms import Form, FormSpec, Upload, check_length
from captiond.web.uploading.named_files import FIELD as PATH_FIELD
from captiond.web.uploading.named_files import copy_named
from captiond.web.uploading.unstored import UnstoredFile

MAX_FIELDS = 1000  # beside the files, as for the framework of the service that captiond replaces


class FormReader:
    """Turns the parts of one body into a form. `flush` and `close` block."""

    def __init__(self, services: Services, spec: FormSpec, form: Form) -> None:
        self._services = services
        self._spec = spec
        self._form = form
        self._fields = self._copied = 0
        self._part: Part = IgnoredFile("")
        self._writer: SpoolWriter = (
            services.spool.writer(services.owner, durable=spec.durable)
            if spec.stored
            else UnstoredFile()
        )

    @property
    def unwritten(self) -> int:
        """How many bytes are in memory."""
        return self._writer.unwritten

    def begin(self, name: str, filename: str | None) -> None:
        """Begin a part. It is a file if it has a file name, and a field if it has none."""
        self._part = self._new_part(name, filename)

    def data(self, data: memoryview) -> None:
        """Take some bytes of the part."""
        self._part.write(data)

    def refuse(self, error: ImageError, content: bytes) -> None:
        """Refuse the part, which is a file. Its hash is that of `content`."""
        assert isinstance(self._part, FilePart)
        self._part.refuse(error, content)

    def end(self) -> None:
        """Add the part to the form."""
        self._part.end(self._form)

    @property
    def named(self) -> list[int]:
        """The positions of the uploads that are to be copied: the request names their paths."""
        uploads = enumerate(self._form.uploads)
        return [at for at, each in uploads if each.image is None and each.refused is None]

    def copy(self, position: int) -> Upload:
        """Copy a file that the request names by its path, and return the upload. Blocking.

        Raises:
            FileTooLarge, BodyTooLarge: the whole request is refused.
            StorageFailed, OSError
        """
        settings, path = self._services.settings, self._form.uploads[position].filename
        assert settings.images.root is not None
        self._writer.begin()
        try:
            copy_named(
                settings.images.root,
                path,
                self._writer,
                check=partial(check_head, images=settings.images),
                limit=settings.limits.file_bytes,
                share=self._services.upload_memory.share,
            )
        except ImageError as error:
            if self._spec.single and isinstance(error, FileTooLarge):
                raise
            self._writer.drop()
            return Upload(shown(path), None, Refused.of(error))
        image = self._writer.end()
        self._copied += image.size
        check_length(self._copied, self._spec.max_bytes(settings.limits))
        return Upload(shown(path), image)

    def add(self, position: int, upload: Upload) -> None:
        """Put a copied file into the form."""
        if upload.refused is not None:
            self._services.recorder.count(FILES_REFUSED, upload.refused.code)
        self._form.uploads[position] = upload

    def flush(self) -> None:
        """Write to the disk what is in memory."""
        self._writer.flush()

    async def commit(self) -> None:
        """Finish the spool file. If the form is `durable`, it survives a power cut from now on."""
        if not self._writer.empty:
            await self._writer.commit()
            self._form.file = self._writer.name

    def close(self) -> None:
        """Remove the spool file of a body that was not read completely or has no image."""
        if self._form.file is None:
            # guard: discard-broken-upload
            self._writer.discard()

    def _new_part(self, name: str, filename: str | None) -> Part:
        if filename is not None and name == self._spec.field:
            return self._new_file(filename)
        if filename is None and name == PATH_FIELD and self._services.settings.images.root:
            return PathPart(self._check_files)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise MalformedBody(f"more than {MAX_FIELDS} fields beside the files")
        if name in TAKEN:  # also from a file: curl -F vocabulary=@tags.txt
            return FieldPart(name)
        return OtherField(name) if filename is None else IgnoredFile(name)

    def _new_file(self, filename: str) -> FilePart:
        self._check_files()
        settings, recorder = self._services.settings, self._services.recorder
        return FilePart(self._writer, settings, recorder, filename, single=self._spec.single)

    def _check_files(self) -> None:
        """Return if the form may have one more file. Raises TooManyFiles."""
        spec, most = self._spec, self._spec.max_files(self._services.settings.limits)
        if len(self._form.uploads) == most:
            raise TooManyFiles(f"too many files in {spec.field!r}: at most {most} in a request")

"""Model files: embedded, in a folder, in the cache of downloads, or on the hub."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from captiond.captioners.notes import add_notes, read_notes
from captiond.errors import ModelBroken, ModelMissing
from captiond.settings.config import Settings

log = structlog.get_logger()
EMBEDDED = {"captiond/scenes": Path(__file__).resolve().parent.parent / "embedded" / "scenes"}
SAFETENSORS, PICKLED = "*.safetensors", "pytorch_model*.bin"
SMALL_FILES = ("*.json", "*.txt", "*.spm")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model: a folder in the Hugging Face layout."""

    name: str
    folder: Path


def find_model(settings: Settings) -> ModelFiles:
    """Return the files of the model that the settings name, or of their fallback.

    Raises:
        ModelMissing: neither is on disk, and neither can be downloaded.
    """
    model = settings.model
    try:
        return ModelFiles(model.name, locate(settings, model.name, download=model.download))
    except ModelMissing as error:
        if not model.fallback:
            raise
        log.warning("model_fallback", wanted=model.name, running=model.fallback, reason=str(error))
        return ModelFiles(model.fallback, locate(settings, model.fallback, download=model.download))


def find_matcher(settings: Settings, *, download: bool) -> Path | None:
    """Return the folder of the model for image-text matching, or None if the settings name none.

    Raises:
        ModelMissing: it is not on disk, and cannot be downloaded.
    """
    matcher = settings.model.matcher
    return locate_further(settings, matcher, download=download) if matcher else None


def locate_further(settings: Settings, name: str, *, download: bool) -> Path:
    """Return the folder of a model that is not the captioner, as `locate` does.

    Raises:
        ModelMissing: the model is not on disk and was not fetched.
    """
    # The revision of the settings is that of the captioner.
    model = settings.model.model_copy(update={"revision": None})
    return locate(settings.model_copy(update={"model": model}), name, download=download)


def locate(settings: Settings, name: str, *, download: bool) -> Path:
    """Return the folder of a model. With `download`, fetch the model if it is not on disk.

    Raises:
        ModelMissing: the model is not on disk and was not fetched.
    """
    if name in EMBEDDED:
        return checked(EMBEDDED[name], name)
    if is_folder(name):
        return checked(Path(name).expanduser(), name)
    cached = in_cache(settings, name)
    if cached is not None:
        return cached
    if not download:
        raise ModelMissing(
            f"{name} is not in {settings.model_cache}; fetch it with: captiond pull {name}"
        )
    return fetch(settings, name)


def is_folder(name: str) -> bool:
    """Return whether a name stands for a folder, rather than for a model of the hub."""
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        return True
    return os.path.isdir(name)  # noqa: PTH112 - Path.is_dir raises if it is not accessible


def checked(folder: Path, name: str) -> Path:
    check_readable(folder, name)
    if not (may_be_folder(folder) and (folder / "config.json").is_file() and has_weights(folder)):
        raise ModelMissing(
            f"{name}: no model there; a folder in the Hugging Face layout holds config.json and "
            "model.safetensors or pytorch_model.bin"
        )
    return folder


def check_readable(folder: Path, name: str) -> None:
    """Check that this user can read the folder of a model and the files in it, if they exist.

    Raises:
        ModelMissing: it cannot.
    """
    for path, mode in needed_rights(folder):
        if not os.access(path, mode):
            raise ModelMissing(
                f"{name}: this user cannot read {path}; change its owner or its mode, for example "
                f"with: chmod -R a+rX {folder}"
            )


def needed_rights(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield each existing path that leads to a model, or is a part of it, with the needed rights.

    A path behind a folder without rights seems to be missing, so folders come before their content.
    """
    for parent in reversed(folder.absolute().parents):
        if not may_be_folder(parent):  # a file has nothing in it
            return
        yield parent, os.X_OK
    if may_be_folder(folder):
        yield folder, os.R_OK | os.X_OK
        yield from ((path, os.R_OK) for path in folder.iterdir() if path.exists())


def may_be_folder(path: Path) -> bool:
    """Return whether a path is a folder, or one that this user may not even ask for."""
    try:
        return path.is_dir()
    except PermissionError:
        return True
    except OSError:  # its name is too long, for example
        return False


def has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in (SAFETENSORS, PICKLED))


def check_weights(folder: Path) -> None:
    """Check that the safetensors files in a folder are whole. The weights are not read.

    Raises:
        ModelBroken: a file is cut off, or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob(SAFETENSORS)):
        try:
            with safe_open(file, "numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelBroken(
                f"{file} is damaged or not complete: {error}; copy or download it again"
            ) from error


def in_cache(settings: Settings, name: str) -> Path | None:
    """Return the folder of a model that was fetched from the hub completely, or None.

    Raises:
        ModelMissing: this user cannot read the folder.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    # Another user may have run `captiond pull`. The hub's client takes that for a missing model.
    check_readable(settings.model_cache / f"models--{name.replace('/', '--')}", name)
    try:
        folder = snapshot_download(
            name,
            revision=settings.model.revision,
            cache_dir=settings.model_cache,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    path = Path(folder)
    return path if (path / "config.json").is_file() and has_weights(path) else None


def fetch(settings: Settings, name: str) -> Path:
    """Fetch a model from the hub into the cache: its safetensors if it has them, else its .bin.

    Raises:
        ModelMissing: the model cannot be fetched. The message says why.
    """
    from huggingface_hub import HfApi, snapshot_download

    revision = settings.model.revision
    log.info("model_download", model=name, revision=revision, cache=str(settings.model_cache))
    try:
        # This one call has no retries: without a network, a fallback starts sooner.
        siblings = HfApi().model_info(name, revision=revision).siblings or []
        safe = any(file.rfilename.endswith(".safetensors") for file in siblings)
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=settings.model_cache,
            allow_patterns=[*SMALL_FILES, SAFETENSORS if safe else PICKLED],
        )
    except Exception as e:  # the hub's client does not catch the errors of its HTTP client
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelMissing(
            f"{name} is not in {settings.model_cache} and cannot be fetched ({reason}); where the "
            f"hub can be reached, run: captiond pull {name}; or set [model] name to a folder"
        ) from e
    return checked(Path(folder), name)


def fingerprint(folder: Path, notes: Path | None = None) -> str:
    """Return a hash of the files that determine a model's captions.

    To hash a gigabyte takes seconds. So the hash of each file is kept in the file `notes`, with the
    file's path, size and time of modification, and is computed again only if one of them differs.

    Raises:
        ModelBroken: a file cannot be read.
    """
    known = read_notes(notes) if notes else {}
    try:
        digests = {
            path: known.get(note_key(path)) or file_digest(path)
            for path in sorted(folder.iterdir())
            if path.suffix in {".json", ".txt", ".spm", ".safetensors", ".bin"}
        }
    except OSError as error:
        raise ModelBroken(f"{error.filename}: cannot be read: {error.strerror}") from error
    if notes:
        add_notes(notes, {note_key(path): digest for path, digest in digests.items()})
    whole = hashlib.sha256()
    for path, digest in digests.items():
        whole.update(f"{path.name}\0{digest}\n".encode())
    return whole.hexdigest()[:32]


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_key(path: Path) -> str:
    """Return what must not have changed since a file was hashed."""
    status = path.resolve().stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"

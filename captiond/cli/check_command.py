"""`captiond check`: check each part, and say in one line how to repair it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from captiond.authority import host_text, local_url
from captiond.captioners.devices import pick_device, pick_precision
from captiond.captioners.families import family_of
from captiond.captioners.files import check_weights, find_matcher, locate, locate_further
from captiond.cli.stored_parts import stored_parts
from captiond.cli.tune_command import summary
from captiond.errors import CaptiondError, ModelMissing, SettingsError, StartupError
from captiond.processes.box import missing_parts
from captiond.settings.config import Settings
from captiond.supervisor.listening import bound, resolved
from captiond.supervisor.lock import is_locked
from captiond.supervisor.neighbours import check_role
from captiond.tagging.synonyms import read_synonyms
from captiond.tagging.tagger import Tagger
from captiond.tagging.vocabulary_tags import vocabulary_of
from captiond.translation.dictionary import read_dictionary
from captiond.translation.translators import load_translator
from captiond.worker.loading import NO_MATCHER
from captiond.worker.tuned import multiplies_bf16, remembered_for_service

SAMPLE = "a red car"
DEVICE = "device"
NODE = "node"
MODEL = "model"  # if there is a fallback, a missing model is a warning only
TUNING = "measured on this machine"
TRANSLATION = "translation"  # without it, captions are in English
BOX = "image decoders"  # they run with less protection if the kernel lacks a part of it


def check(settings: Settings) -> bool:
    """Check every part, print a line for each, and a verdict. Return whether captiond works."""
    failed: list[str] = []
    warned: list[str] = []
    for part, check_part in parts(settings):
        if part == TUNING and {MODEL, DEVICE} & {*failed, *warned}:
            continue  # nothing can have been measured, and the reason has been told
        try:
            typer.echo(f"ok    {part}: {check_part()}")
        except CaptiondError as error:
            only_warn = part == BOX or goes_on(settings, part, error)
            (warned if only_warn else failed).append(part)
            typer.echo(f"{'warn' if only_warn else 'FAIL'}  {part}: {error}")
    typer.echo(verdict(settings, failed, warned))
    return not failed


def goes_on(settings: Settings, part: str, error: CaptiondError) -> bool:
    """Return whether the service captions without a part: in English, or with the fallback."""
    if part.startswith(TRANSLATION):
        return not isinstance(error, SettingsError)
    return part == MODEL and is_replaced(settings, error)


def is_replaced(settings: Settings, error: CaptiondError) -> bool:
    """Return whether the fallback captions instead. It does so for a missing model only."""
    return bool(settings.model.fallback) and isinstance(error, ModelMissing)


def verdict(settings: Settings, failed: list[str], warned: list[str]) -> str:
    """Return whether captiond can write captions and tags, and with which model."""
    if failed:
        return f"not ready: repair what is marked FAIL ({', '.join(failed)})"
    if not settings.node.has_model:
        return "ready: this node has no model, and other nodes caption"
    if MODEL in warned:
        return f"ready, but only with the fallback model {settings.model.fallback}"
    return f"ready: captiond can write captions and tags with {settings.model.name}"


def parts(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each part, and a function that checks it.

    The function returns its result as text, and raises a CaptiondError if the part is not usable.
    """
    if settings.node.role != "all":
        yield NODE, lambda: check_node(settings)
    yield "address", lambda: check_address(settings)
    yield from stored_parts(settings, os.environ)
    if settings.node.has_model:
        yield from model_parts(settings)


def model_parts(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what only a node with a model needs, as `parts` does."""
    yield BOX, check_box
    yield DEVICE, lambda: check_devices(settings)
    yield MODEL, lambda: f"{settings.model.name} in {check_model(settings, settings.model.name)}"
    if fallback := settings.model.fallback:
        yield "fallback model", lambda: f"{fallback} in {check_model(settings, fallback)}"
    if settings.model.matcher:
        yield "matching model", lambda: f"{settings.model.matcher} in {check_matcher(settings)}"
    yield TUNING, lambda: check_tuning(settings)
    if synonyms := settings.tags.synonyms:
        yield "tag synonyms", lambda: f"{len(read_synonyms(synonyms).replacements)} in {synonyms}"
    if vocabulary := settings.tags.vocabulary:
        yield "tag vocabulary", lambda: f"{check_vocabulary(settings)} tags in {vocabulary}"
    for language, name in settings.translation.models.items():
        yield f"{TRANSLATION} {language}", lambda: check_translation(settings, language, name)  # noqa: B023 - called at once
    for language, pipeline in settings.tags.pipelines.items():
        yield f"tag pipeline {language}", lambda: check_pipeline(language, pipeline)  # noqa: B023 - called at once


def check_node(settings: Settings) -> str:
    """Return what this node does.

    Raises:
        SettingsError: it lacks what it has to share with the others.
    """
    check_role(settings)
    return "a model without the API" if settings.node.has_model else "the API without a model"


def check_address(settings: Settings) -> str:
    """Return where the service can listen, or where it already does.

    Raises:
        StartupError: this user cannot listen there, or another program does.
    """
    server = settings.server
    try:
        bound(server).close()
    except StartupError:
        if url := own_url(settings):
            return f"the service of this data folder listens at {url}"
        raise
    return f"{host_text(server.host)}:{server.port} is free"


def own_url(settings: Settings) -> str:
    """Return the URL of the service that runs with these settings; empty if none does.

    The file with the address outlives a service that was killed. The lock does not.
    """
    with contextlib.suppress(OSError):
        url = settings.address_file.read_text("ascii").strip()
        _, address = resolved(settings.server.host, settings.server.port)
        if url == local_url(*address[:2]) and is_locked(settings.data.dir):
            return url
    return ""


def check_box() -> str:
    """Return how image decoders are confined.

    Raises:
        StartupError: the kernel lacks a part of it.
    """
    if missing := missing_parts():
        raise StartupError(
            f"the kernel has no {' and no '.join(missing)}, so a file that takes over an image "
            "decoder can do more harm; use Linux 5.13 or later, with landlock among its LSMs"
        )
    return "confined by landlock and seccomp"


def check_devices(settings: Settings) -> str:
    """Return the devices that the model runs on.

    Raises:
        ModelBroken: torch cannot use one of them, or not in the precision of the settings.
    """
    devices = [pick_device(device) for device in settings.model.devices]
    precisions = [pick_precision(settings.model.precision, device) for device in devices]
    names = ", ".join(map(str, devices))
    slow = "bf16" in precisions and names == "cpu" and not multiplies_bf16()
    return f"{names}; fp32 is faster: this processor does not multiply bf16" if slow else names


def check_model(settings: Settings, name: str) -> Path:
    """Return the folder of a model that is on disk and whole. A check downloads nothing.

    Raises:
        ModelMissing: the model is not on disk.
        ModelBroken: captiond knows no model of this type, or a file is damaged.
    """
    folder = locate(settings, name, download=False)
    family_of(folder)
    check_weights(folder)
    return folder


def check_matcher(settings: Settings) -> Path:
    """Return the folder of the model for image-text matching. A check downloads nothing.

    Raises:
        ModelMissing: the model is not on disk.
        ModelBroken: a file is damaged.
    """
    folder = find_matcher(settings, download=False)
    assert folder is not None, "asked only if the settings name one"
    check_weights(folder)
    return folder


def check_translation(settings: Settings, language: str, name: str) -> str:
    """Load the model and the dictionary of a language, and translate a caption.

    Raises:
        SettingsError: the file of the dictionary is wrong.
        ModelMissing, ModelBroken: the model cannot be loaded.
    """
    dictionary = read_dictionary(language, settings.translation.dictionaries.get(language))
    folder, beams = locate_further(settings, name, download=False), settings.translation.num_beams
    translator = load_translator(folder, language, pick_device("cpu"), "fp32", beams)
    (sentence,) = translator.translate([SAMPLE])
    return f"{name} says {sentence.text!r}; {len(dictionary.entries)} tags"


def check_vocabulary(settings: Settings) -> int:
    """Return how many tags the vocabulary of the settings has.

    Raises:
        SettingsError: its file cannot be read or has a wrong line, or nothing can score its tags.
    """
    vocabulary = vocabulary_of(settings.tags)
    if vocabulary.tags and vocabulary.scorer == "matching" and not settings.model.matcher:
        raise SettingsError(NO_MATCHER)
    return len(vocabulary.tags)


def check_tuning(settings: Settings) -> str:
    """Return how the model computes on this machine, as far as that has been measured.

    Raises:
        ModelMissing: the model is not on disk.
    """
    record = remembered_for_service(settings)
    if record is None or not record.tries:
        return "not measured yet; the first start or captiond tune will do it"
    return summary(record) if record.quiet else f"{summary(record)} (measured while busy)"


def check_pipeline(language: str, pipeline: str) -> str:
    """Load a tag pipeline and tag a caption with it.

    Raises:
        ModelMissing, ModelBroken: the pipeline cannot be loaded.
        StartupError: the pipeline fails on the caption.
    """
    tagger = Tagger.load(language, pipeline)
    tagger.tag([SAMPLE])
    if tagger.failures:
        raise StartupError(f"{pipeline} fails on {SAMPLE!r}, see above; install it again")
    return pipeline

"""Loads the captioner and the taggers, for the service and for the commands.

There are two steps. `identify` determines what would be loaded, which is enough to look captions up
in the cache. `load` loads the weights and runs them once.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from captiond.captioners import sizing
from captiond.captioners.choices import as_values
from captiond.captioners.devices import pick_device
from captiond.captioners.families import load_captioner
from captiond.captioners.files import ModelFiles, find_matcher, find_model, fingerprint
from captiond.captioners.memory import raising_out_of_memory
from captiond.captioners.protocol import Captioner, Placement
from captiond.captioners.tuning_record import TuningRecord, write_record
from captiond.decoding.geometry import Pixels
from captiond.errors import ModelBroken, OutOfMemory, SettingsError
from captiond.host.machine import trim_heap
from captiond.jobs import ENGLISH, Generation
from captiond.messages import ModelInfo
from captiond.settings.config import Settings
from captiond.tagging.tagger import Taggers
from captiond.tagging.vocabulary_tags import vocabulary_of
from captiond.translation.dictionary import TagDictionary, read_dictionary
from captiond.translation.translators import Translators
from captiond.vocabulary import Vocabulary
from captiond.worker.tuned import measured_anew, tuned, tuning_key

NO_MATCHER = (
    "[tags] vocabulary_scorer = matching: needs a model in [model] matcher, such as "
    "Salesforce/blip-itm-base-coco"
)
NO_ENGLISH_TAGS = (
    "[translation] models: the tags of translated captions are translated from English; add an "
    "English pipeline to [tags.pipelines], such as: en = 'captiond/english'"
)
DEFAULT_ON_CPU, DEFAULT_ON_GPU = 8, 64  # images in a batch, if none was set, measured or remembered


@dataclass(frozen=True)
class Identity:
    """What is going to be loaded: the model's files, where it runs, and the taggers, loaded."""

    files: ModelFiles
    fingerprint: str
    placement: Placement
    tuning: TuningRecord
    taggers: Taggers
    vocabulary: Vocabulary
    matcher_fingerprint: str  # "" if there is no matching model
    translators: Translators
    dictionaries: Mapping[str, TagDictionary]  # by language


@dataclass(frozen=True)
class Loaded:
    """A captioner and taggers that have run once. `pixels` is the buffer for a batch's pixels."""

    captioner: Captioner
    taggers: Taggers
    info: ModelInfo
    pixels: Pixels
    vocabulary: Vocabulary | None
    translators: Translators
    dictionaries: Mapping[str, TagDictionary]


def identify(
    settings: Settings, device_setting: str, notes: Path | None = None, *, trial: bool = False
) -> Identity:
    """Load the taggers and find the model, but do not load it. Blocking.

    `notes` is a file that remembers the hashes of model files. With `trial`, the ways in which the
    model computes are measured if no earlier start has done so on this machine.

    Raises:
        ModelMissing, ModelBroken, SettingsError: captions or tags cannot be made here.
    """
    taggers = Taggers.load(settings.tags)
    vocabulary = vocabulary_of(settings.tags)
    files = find_model(settings)
    device = pick_device(device_setting)
    mark = fingerprint(files.folder, notes)
    tuning = tuned(settings, device, mark)
    if trial and not tuning.settled:
        with suppress(ModelBroken):  # `load` reports it; known images need no model
            tuning = measured_anew(settings, device, files.folder, mark, tuning)
    graphs = settings.model.cuda_graphs
    matcher = find_matcher(settings, download=settings.model.download)
    placement = Placement(device, tuning.precision, graphs, tuning.choices, matcher)
    matcher_mark = fingerprint(matcher, notes) if matcher is not None else ""
    dictionaries = dictionaries_of(settings)
    translators = Translators.find(settings, notes, download=settings.model.download)
    return Identity(
        files,
        mark,
        placement,
        tuning,
        taggers,
        vocabulary,
        matcher_mark,
        translators,
        dictionaries,
    )


def dictionaries_of(settings: Settings) -> dict[str, TagDictionary]:
    """Return the dictionary of each language that captions are translated into.

    Raises:
        SettingsError: a file of the settings is wrong, or there are no English tags to translate.
    """
    translation = settings.translation
    if translation.models and ENGLISH not in settings.tags.pipelines:
        raise SettingsError(NO_ENGLISH_TAGS)
    own = translation.dictionaries
    return {
        language: read_dictionary(language, own.get(language)) for language in translation.models
    }


def load(identity: Identity, settings: Settings, *, trial: bool) -> Loaded:
    """Load the model, and run model and taggers once. Blocking.

    With `trial`, batch sizes are measured if the settings name none and none is remembered, and a
    GPU captures its token steps beforehand.

    Raises:
        ModelBroken: the model cannot be loaded.
        SettingsError: the model cannot do what the settings ask for.
    """
    device, taggers = identity.placement.device, identity.taggers
    if device.type == "cpu":
        torch.set_num_threads(identity.tuning.threads)
    captioner = load_captioner(identity.files.folder, identity.placement)
    check_defaults(captioner, settings.default_generation)
    vocabulary = checked_vocabulary(captioner, identity.vocabulary)
    translators = identity.translators
    translators.load(captioner.device, captioner.precision, settings.translation.num_beams)
    trim_heap()  # unpacked weights were copied to the heap, up to 0.4 GB for BLIP-base
    warm_up(captioner, taggers, settings, vocabulary)
    tuning = with_batch_size(settings, captioner, identity) if trial else identity.tuning
    info = describe(settings, identity, captioner, tuning)
    if trial and device.type == "cuda":
        run_each_size(captioner, info.batch_size, settings.default_generation)
    pixels = captioner.allocate_pixels(info.batch_size)
    return Loaded(captioner, taggers, info, pixels, vocabulary, translators, identity.dictionaries)


def check_defaults(captioner: Captioner, defaults: Generation) -> None:
    """Check that the captioner can serve requests that ask for nothing in particular.

    Raises:
        SettingsError: it cannot.
    """
    option = captioner.capabilities.missing_for(defaults)
    if option is not None:
        raise SettingsError(f"[generation] {option}: this model does not support it; remove it")


def checked_vocabulary(captioner: Captioner, vocabulary: Vocabulary) -> Vocabulary | None:
    """Return a vocabulary that has tags, and None for one that has none.

    Raises:
        SettingsError: the captioner cannot score its tags.
    """
    if vocabulary.tags and not captioner.capabilities.vocabulary:
        raise SettingsError("[tags] vocabulary: this model cannot score tags; remove it")
    if vocabulary.scorer == "matching" and not captioner.capabilities.matching:
        raise SettingsError(NO_MATCHER)
    return vocabulary if vocabulary.tags else None


def warm_up(
    captioner: Captioner, taggers: Taggers, settings: Settings, vocabulary: Vocabulary | None
) -> None:
    """Run everything once, because a first run takes longer than the ones after it.

    The scores of the vocabulary's tags about a blank image are computed here as well.
    """
    languages = list(settings.tags.pipelines)
    pixels = captioner.allocate_pixels(1)
    ((caption, *_),) = captioner.caption(pixels, settings.default_generation, vocabulary)
    taggers.tag([caption.text] * len(languages), languages)


def run_each_size(captioner: Captioner, most: int, generation: Generation) -> None:
    """Caption batches of all sizes for which token steps are captured: the powers of two.

    The largest comes first: smaller batches then fit into the memory that is already allocated.
    """
    size = 1 << (most - 1).bit_length()
    while size:
        with suppress(OutOfMemory), raising_out_of_memory():
            captioner.caption(captioner.allocate_pixels(size), generation)
        size //= 2


def describe(
    settings: Settings, identity: Identity, captioner: Captioner, tuning: TuningRecord
) -> ModelInfo:
    return ModelInfo(
        name=identity.files.name,
        requested=settings.model.name,
        fingerprint=identity.fingerprint,
        device=str(captioner.device),
        precision=captioner.precision,
        batch_size=settings.model.batch_size or batch_size(captioner, tuning),
        unsupported=captioner.capabilities.unsupported,
        choices=as_values(tuning.choices),
        untranslated=tuple(identity.translators.unavailable),
    )


def batch_size(captioner: Captioner, record: TuningRecord) -> int:
    """Return the batch size of the record, or a default. It must fit into the free memory.

    A busy machine makes larger batches look slow. A size that was measured on one is at least the
    default.
    """
    usual = DEFAULT_ON_CPU if captioner.device.type == "cpu" else DEFAULT_ON_GPU
    size = record.batch_size or usual
    if not record.quiet:
        size = max(size, usual)
    return min(size, sizing.memory_capacity(captioner))


def with_batch_size(settings: Settings, captioner: Captioner, identity: Identity) -> TuningRecord:
    """Return the record with a batch size, which is measured if the record has none."""
    record = identity.tuning
    if settings.model.batch_size or record.batch_size:
        return record
    measured = sizing.measured_size(captioner, settings.default_generation)
    record = record.with_batch_size(measured.size, quiet=measured.quiet)
    key = tuning_key(settings, captioner.device, identity.fingerprint)
    write_record(settings.tuning, key, record)
    return record

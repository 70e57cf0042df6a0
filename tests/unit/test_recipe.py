"""What the key of a cached caption depends on."""

from dataclasses import dataclass, replace

import pytest

from captiond.captioners.families import FAMILIES
from captiond.captioners.files import EMBEDDED
from captiond.clients import Client
from captiond.jobs import (
    NO_CONTEXT,
    Captioned,
    Generation,
    Lane,
    Options,
    SearchRules,
    SpooledImage,
)
from captiond.messages import Work
from captiond.settings.option_settings import CaptionSettings
from captiond.tags import TagFilter, TagOptions
from captiond.wording.tidying import WORDING_VERSION, TextRules
from captiond.worker import process
from captiond.worker.process import wording_parts
from captiond.worker.recipe import Recipe, generation_key

RECIPE = Recipe("m", "f", lambda language: language or "en", Generation(), TagFilter(), True)
WORK = Work("t", Lane.BULK, SpooledImage("s", 0, 1, "sha"))


@dataclass(frozen=True, slots=True)
class LaterGeneration(Generation):
    """`Generation` with a field that a later version adds."""

    later: str = ""


def test_a_new_field_with_its_default_keeps_the_keys() -> None:
    assert generation_key(LaterGeneration()) == generation_key(Generation())
    assert generation_key(LaterGeneration("a", num_beams=2)) == generation_key(
        Generation("a", num_beams=2)
    )
    assert generation_key(LaterGeneration(later="x")) != generation_key(Generation())


def test_keys_of_default_options_are_those_of_earlier_versions() -> None:
    assert generation_key(Generation()) == (
        "[('max_new_tokens', 20), ('min_new_tokens', 0), ('num_beams', 1), ('num_captions', 1), "
        "('prompt', ''), ('repetition_penalty', 1.0)]"
    )


@pytest.mark.parametrize(
    "options",
    [
        Options(generation=Generation(prompt="a")),
        Options(generation=Generation(num_beams=2)),
        Options(generation=Generation(max_new_tokens=21)),
        Options(generation=Generation(min_new_tokens=1)),
        Options(generation=Generation(repetition_penalty=1.1)),
        Options(generation=Generation(num_beams=2, num_captions=2)),
        Options(generation=Generation(no_repeat_ngram_size=3)),
        Options(generation=Generation(context="place: Lisbon")),
        Options(generation=Generation(rules=SearchRules(ban_hallucinations=True))),
        Options(generation=Generation(rules=SearchRules(banned_words=("blury",)))),
        Options(generation=Generation(rules=SearchRules(finish_tokens=1))),
        Options(language="de"),
    ],
)
def test_options_that_change_captions_or_tags_change_the_key(options: Options) -> None:
    assert RECIPE.cache_key(replace(WORK, options=options)) != RECIPE.cache_key(WORK)


def test_a_context_that_the_model_cannot_use_changes_nothing_but_has_a_note() -> None:
    """Otherwise each image with a context of its own would be a batch of its own."""
    recipe, asked = replace(RECIPE, uses_context=False), Generation(context="place: Lisbon")
    work = replace(WORK, options=Options(generation=asked))
    assert recipe.generation_of(work) == recipe.generation_of(WORK)
    assert recipe.cache_key(work) == recipe.cache_key(WORK)
    whole = Captioned("a boat", (), "m", 4, 3, notes=("another",))
    assert recipe.selected(whole, work).notes == ("another", NO_CONTEXT)
    assert recipe.selected(whole, WORK).notes == ("another",)
    assert RECIPE.generation_of(work) == asked
    assert RECIPE.selected(whole, work).notes == ("another",)


def test_the_selection_of_tags_does_not_change_the_key() -> None:
    work = replace(WORK, options=Options(tags=TagOptions(deny=("x",))))
    assert RECIPE.cache_key(work) == RECIPE.cache_key(WORK)
    asked = replace(WORK, options=Options(generation=Generation()))
    assert RECIPE.cache_key(asked) == RECIPE.cache_key(WORK)


def test_work_that_is_alone_or_asks_for_no_cache_is_not_cacheable() -> None:
    assert RECIPE.is_cacheable(WORK)
    assert not RECIPE.is_cacheable(replace(WORK, alone=True))
    assert not RECIPE.is_cacheable(replace(WORK, options=Options(no_cache=True)))
    assert not replace(RECIPE, cached=False).is_cacheable(WORK)


def test_each_key_has_its_own_captions() -> None:
    """Clients without a key share theirs, which keep the cache keys of earlier versions."""
    key, other = Client("key:a"), Client("key:b", weight=2)
    keys = {RECIPE.cache_key(replace(WORK, client=client)) for client in (key, other)}
    assert len(keys | {RECIPE.cache_key(WORK)}) == 3
    heavier = replace(WORK, client=replace(key, weight=3))
    assert RECIPE.cache_key(heavier) in keys
    for name in ("", "address:192.0.2.1", "connection:1"):
        assert RECIPE.cache_key(replace(WORK, client=Client(name))) == RECIPE.cache_key(WORK)


def test_what_the_wording_depends_on_is_a_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, usual = EMBEDDED["captiond/scenes"], CaptionSettings()
    parts = list(wording_parts(usual, scenes))
    assert len(parts) == 2
    unruled = CaptionSettings(
        ban_hallucinations=False, **dict.fromkeys(TextRules.__dataclass_fields__, False)
    )
    assert list(wording_parts(unruled, scenes)) == []
    with monkeypatch.context() as patched:
        patched.setattr(process, "WORDING_VERSION", WORDING_VERSION + 1)
        assert list(wording_parts(usual, scenes)) != parts
    blip = FAMILIES["blip"]
    monkeypatch.setitem(FAMILIES, "blip", replace(blip, invented_words=lambda: ("arafed",)))
    assert list(wording_parts(usual, scenes)) != parts
    assert list(wording_parts(unruled, scenes)) == []

"""What becomes of the results of `captiond caption`, as its flags say it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captiond.cli.captioning.destinations import (
    Destination,
    ImageMetadata,
    JsonSidecar,
    TextSidecar,
    XmpSidecar,
)
from captiond.cli.captioning.output_file import OutputFile, output_format
from captiond.cli.captioning.planning import Existing
from captiond.cli.captioning.result_choices import SidecarKind, TextContent, XmpName
from captiond.cli.formats import STANDARD_OUTPUT, Format, pick_format
from captiond.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Given:
    """The values of the flags."""

    formats: list[Format]
    bom: bool
    output: Path | None
    sidecars: list[SidecarKind]
    embed: bool
    text: TextSidecar
    xmp_name: XmpName
    skip: bool
    overwrite: bool


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What becomes of the results.

    They are printed in the format `chosen`, or go to `output` instead. `destinations` get them as
    well. `bom` is for CSV on standard output.
    """

    chosen: Format
    destinations: Sequence[Destination] = ()
    output: OutputFile | None = None
    existing: Existing = Existing.REFUSE
    bom: bool = False


def result_options(given: Given) -> ResultOptions:
    """Return what the flags ask for.

    Raises:
        SettingsError: they contradict each other, or the output file cannot be used.
    """
    if given.output == STANDARD_OUTPUT:
        given = replace(given, output=None)
    check_needed(given)
    existing = existing_policy(given)
    chosen = pick_format(given.formats)
    if given.output is None:
        check_bom(given, chosen)
        return ResultOptions(chosen, destinations_of(given), None, existing, given.bom)
    chosen = output_format(given.output, chosen if given.formats else None)
    check_bom(given, chosen)
    output = OutputFile(given.output, chosen, existing, bom=given.bom)
    return ResultOptions(chosen, destinations_of(given), output, existing)


def destinations_of(given: Given) -> list[Destination]:
    """Return the destinations, each once. The image comes first, since a sidecar regards it."""
    made: dict[SidecarKind, Destination] = {
        SidecarKind.TXT: given.text,
        SidecarKind.JSON: JsonSidecar(),
        SidecarKind.XMP: XmpSidecar(given.xmp_name, given.overwrite),
    }
    first: list[Destination] = [ImageMetadata(given.overwrite)] if given.embed else []
    return [*first, *(made[kind] for kind in dict.fromkeys(given.sidecars))]


def existing_policy(given: Given) -> Existing:
    """Return what to do with images that have results."""
    if given.skip:
        return Existing.SKIP
    return Existing.OVERWRITE if given.overwrite else Existing.REFUSE


def check_needed(given: Given) -> None:
    """Return if each flag has the other flag that it needs. Raises SettingsError."""
    if given.skip and given.overwrite:
        raise SettingsError("command line: choose one of --skip-existing, --overwrite")
    keeps = given.embed or bool(given.sidecars) or given.output is not None
    if (given.skip or given.overwrite) and not keeps:
        raise SettingsError(
            "command line: --skip-existing and --overwrite need --output, --sidecar or --embed"
        )
    of_text = given.text != TextSidecar(TextContent.CAPTION)
    if of_text and SidecarKind.TXT not in given.sidecars:
        raise SettingsError("command line: --text, --prefix and --suffix need --sidecar txt")
    check_texts(given.text)
    if given.xmp_name is not XmpName.FULL and SidecarKind.XMP not in given.sidecars:
        raise SettingsError("command line: --xmp-name needs --sidecar xmp")


def check_texts(text: TextSidecar) -> None:
    """Return if the texts around a caption can be written. Raises SettingsError."""
    for flag, value in (("--prefix", text.prefix), ("--suffix", text.suffix)):
        try:
            value.encode()
        except UnicodeEncodeError:  # bytes of another encoding, of which Python makes surrogates
            raise SettingsError(f"command line: {flag}: must be UTF-8") from None


def check_bom(given: Given, chosen: Format) -> None:
    if given.bom and chosen is not Format.CSV:
        raise SettingsError("command line: --bom needs --csv")

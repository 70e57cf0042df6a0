"""Scenes drawn beforehand: arrays on disk that training reads without drawing anything."""

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.scenes.draw import encode_jpeg, render
from tools.scenes.sample import sample_scene
from tools.scenes.scene import HUES, NOUNS, Scene, Thing, caption

Bytes = npt.NDArray[np.uint8]

GRID = 8  # cells a side for which the thing there is recorded: one for each patch
EMPTY = 255  # the cell of a grid where nothing is
_CHUNK = 500


@dataclass(frozen=True)
class Sample:
    """A scene, its true caption and its picture as a JPEG file."""

    scene: Scene
    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class Drawn:
    """`n` scenes at the model's resolution.

    pixels [n, side, side, 3]; cells [n, GRID, GRID], each the class of the thing there or EMPTY;
    counts [n], the number of things; captions, n strings.
    """

    pixels: Bytes
    cells: Bytes
    counts: Bytes
    captions: list[str]


def draw_sample(seed: int, index: int, count: int | None = None) -> Sample:
    """Scene `index` of the endless series that `seed` names; no other scene bears on it."""
    rng = Random(f"{seed}:{index}")
    scene = sample_scene(rng, count)
    return Sample(scene, caption(scene), encode_jpeg(render(scene, rng), rng))


def open_picture(jpeg: bytes) -> Image.Image:
    """The RGB picture of a JPEG file."""
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def thing_class(thing: Thing) -> int:
    """Kind and colour as one number, below EMPTY."""
    return NOUNS.index(thing.kind) * len(HUES) + HUES.index(thing.colour)


def cells_of(scene: Scene) -> Bytes:
    """Which thing covers the middle of each cell, the innermost first; [GRID, GRID]."""
    cells = np.full((GRID, GRID), EMPTY, dtype=np.uint8)
    middles = (np.arange(GRID) + 0.5) / GRID
    for thing in scene.things:
        reach = max(thing.half, 0.5 / GRID)
        across = np.abs(middles - thing.x) <= reach
        down = np.abs(middles - thing.y) <= reach
        cells[np.ix_(down, across)] = thing_class(thing)
    return cells


def load_or_draw(folder: Path, seed: int, size: int, side: int, processes: int) -> Drawn:
    """The first `size` scenes of `seed` at `side` pixels, drawn in `processes` unless on disk."""
    store = folder / f"scenes-{seed}-{size}-{side}"
    if not (store / "captions.txt").exists():
        store.mkdir(parents=True, exist_ok=True)
        _draw_all(store, seed, size, side, processes)
    return Drawn(
        np.load(store / "pixels.npy", mmap_mode="r"),
        np.load(store / "cells.npy"),
        np.load(store / "counts.npy"),
        (store / "captions.txt").read_text().splitlines(),
    )


def _draw_all(store: Path, seed: int, size: int, side: int, processes: int) -> None:
    """Draws into `store`; captions.txt comes last and says that the rest is whole."""
    pixels = np.lib.format.open_memmap(
        store / "pixels.npy", mode="w+", dtype=np.uint8, shape=(size, side, side, 3)
    )
    cells, counts, captions = [], [], []
    for done, (chunk, places, things, lines) in enumerate(_chunks(seed, size, side, processes)):
        pixels[done * _CHUNK : done * _CHUNK + len(chunk)] = chunk
        cells.append(places)
        counts.append(things)
        captions.extend(lines)
        print(f"\rdrawn {len(captions):,} of {size:,}", end="", flush=True)
    print()
    pixels.flush()
    np.save(store / "cells.npy", np.concatenate(cells))
    np.save(store / "counts.npy", np.concatenate(counts))
    (store / "captions.txt").write_text("\n".join(captions) + "\n")


Chunk = tuple[Bytes, Bytes, Bytes, list[str]]


def _chunks(seed: int, size: int, side: int, processes: int) -> Iterator[Chunk]:
    with ProcessPoolExecutor(processes) as pool:
        draw = partial(_draw_chunk, seed, side)
        yield from pool.map(draw, (range(size)[i : i + _CHUNK] for i in range(0, size, _CHUNK)))


def _draw_chunk(seed: int, side: int, indices: range) -> Chunk:
    samples = [draw_sample(seed, index) for index in indices]
    shape = (side, side)
    pictures = [
        np.asarray(open_picture(s.jpeg).resize(shape, Image.Resampling.BICUBIC)) for s in samples
    ]
    cells = np.stack([cells_of(sample.scene) for sample in samples])
    counts = np.array([len(sample.scene.things) for sample in samples], dtype=np.uint8)
    return np.stack(pictures), cells, counts, [sample.caption for sample in samples]

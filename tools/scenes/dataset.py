"""The training set: scenes that are drawn once and stored as arrays on disk."""

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

GRID = 8  # cells on each side of a picture; one cell for each patch of the model
EMPTY = 255  # the class of a cell that no thing covers
_CHUNK = 500


@dataclass(frozen=True)
class Sample:
    """A scene, its true caption and its picture as a JPEG file."""

    scene: Scene
    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class Drawn:
    """`n` scenes at the resolution of the model.

    `pixels` has the shape [n, side, side, 3]. `cells` [n, GRID, GRID] has the class of the thing in
    each cell, or EMPTY. `counts` [n] has the number of things. `captions` has n strings.
    """

    pixels: Bytes
    cells: Bytes
    counts: Bytes
    captions: list[str]


def draw_sample(seed: int, index: int, count: int | None = None) -> Sample:
    """Draw scene number `index` of the series with this seed. It depends on nothing else."""
    rng = Random(f"{seed}:{index}")
    scene = sample_scene(rng, count)
    return Sample(scene, caption(scene), encode_jpeg(render(scene, rng), rng))


def open_picture(jpeg: bytes) -> Image.Image:
    """Return the RGB picture of a JPEG file."""
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def thing_class(thing: Thing) -> int:
    """Return the class of a thing: its kind and colour as one number, less than EMPTY."""
    return NOUNS.index(thing.kind) * len(HUES) + HUES.index(thing.colour)


def cells_of(scene: Scene) -> Bytes:
    """Return the class of the innermost thing at the middle of each cell, as [GRID, GRID]."""
    cells = np.full((GRID, GRID), EMPTY, dtype=np.uint8)
    middles = (np.arange(GRID) + 0.5) / GRID
    for thing in scene.things:
        reach = max(thing.half, 0.5 / GRID)
        across = np.abs(middles - thing.x) <= reach
        down = np.abs(middles - thing.y) <= reach
        cells[np.ix_(down, across)] = thing_class(thing)
    return cells


def load_or_draw(folder: Path, seed: int, size: int, side: int, processes: int) -> Drawn:
    """Return the first `size` scenes of a seed at `side` pixels, from disk or newly drawn.

    `processes` is how many processes draw.
    """
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
    """Draw the scenes into `store`. captions.txt is written last: it marks the set as complete."""
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

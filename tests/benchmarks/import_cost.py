"""Measure what an import costs beside the model and the decoders.

python -m tests.benchmarks.import_cost [--images 1000] [--bytes 100000]

The figure is the processor time that the process of the command takes for an image: reading and
hashing it, a file for a decoder, messages to and from the model process. It bounds how many images
a second one command, or one actor of Ray, can have captioned.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from pathlib import Path

from captiond.bulk.bulk_captioner import bulk_captioner
from captiond.settings.config import DataSettings, LogSettings, ModelSettings, Settings
from tests.conftest import png


async def measure(settings: Settings, image: Path, images: int) -> float:
    """Return the processor seconds of this process for an image."""
    async with bulk_captioner(settings, "cpu") as captioner:
        await captioner.caption_at(str(image))
        before = processor_seconds()
        await asyncio.gather(*(captioner.caption_at(str(image)) for _ in range(images)))
        return (processor_seconds() - before) / images


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "image.png"
        image.write_bytes(png(1).ljust(given.bytes, b"\0"))
        settings = Settings(
            data=DataSettings(dir=folder),
            model=ModelSettings(name="captiond/scenes", batch_size=32, threads=1),
            logs=LogSettings(level="error"),
        )
        seconds = asyncio.run(measure(settings, image, given.images))
    figures = {"milliseconds_of_a_core": round(1000 * seconds, 2), "most": round(1 / seconds)}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

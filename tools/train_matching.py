"""Train an image-text matching model beside captiond/scenes: python -m tools.train_matching

It takes about ten minutes on two cores. The model is not shipped: tools.vocabulary_report compares
it with the likelihood of tags, and docs/vocabulary.md has the outcome.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from captiond.captioners.files import EMBEDDED
from tools.scenes.dataset import load_or_draw
from tools.scenes.matching import MatchingRecipe, save_matching, train_matching
from tools.scenes.model import SIDE

OUT = Path("build/scenes-matching")
WORK = Path("build/scenes")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.train_matching", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=OUT, help="the folder of the model")
    parser.add_argument("--work", type=Path, default=WORK, help="the folder of the drawn scenes")
    recipe = MatchingRecipe()
    for each in fields(recipe):
        default = getattr(recipe, each.name)
        parser.add_argument(f"--{each.name}", type=type(default), default=default)
    options = parser.parse_args(argv)
    values = {each.name: getattr(options, each.name) for each in fields(recipe)}
    recipe = MatchingRecipe(**values)
    drawn = load_or_draw(
        options.work, recipe.seed, recipe.scenes, SIDE, processes=os.cpu_count() or 1
    )
    save_matching(train_matching(EMBEDDED["captiond/scenes"], drawn, recipe), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

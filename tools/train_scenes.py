"""Train and evaluate captiond/scenes, the small BLIP that is shipped with captiond.

python -m tools.train_scenes                 draw scenes, train (or resume), save, evaluate
python -m tools.train_scenes --evaluate      print the score of the saved model
python -m tools.train_scenes --samples DIR   write a few test pictures with their captions
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tools.scenes.card import write_card
from tools.scenes.dataset import load_or_draw
from tools.scenes.evaluation import EVALUATION_SEED, Answer, evaluate, score
from tools.scenes.model import SIDE, new_tokenizer, save_model
from tools.scenes.samples import write_samples
from tools.scenes.training import Recipe, Run, new_run, resume_run, train

OUT = Path("captiond/embedded/scenes")
WORK = Path("build/scenes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return 0, or 1 if training stopped before its last step."""
    options = _parser().parse_args(argv)
    if options.samples:
        write_samples(options.out, options.samples)
    elif options.evaluate:
        _print_score(evaluate(options.out, options.evaluation_seed, options.evaluation_scenes))
    else:
        return _train(options)
    return 0


def _parser() -> argparse.ArgumentParser:
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m tools.train_scenes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=OUT, help="the folder of the model")
    parser.add_argument(
        "--work", type=Path, default=WORK, help="the folder of the drawn scenes and the checkpoint"
    )
    parser.add_argument(
        "--seed", type=int, default=recipe.seed, help="the seed of the scenes and the weights"
    )
    parser.add_argument("--scenes", type=int, default=recipe.scenes, help="how many scenes to draw")
    parser.add_argument("--steps", type=int, default=recipe.steps, help="how many steps to train")
    parser.add_argument("--batch", type=int, default=recipe.batch, help="scenes in one step")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after so many minutes"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start anew instead of resuming from the checkpoint"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="how many processes draw"
    )
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the model in --out")
    parser.add_argument("--evaluation-seed", type=int, default=EVALUATION_SEED)
    parser.add_argument("--evaluation-scenes", type=int, default=2000)
    parser.add_argument("--samples", type=Path, help="only write the test pictures to this folder")
    return parser


def _train(options: argparse.Namespace) -> int:
    recipe = replace(
        Recipe(),
        seed=options.seed,
        scenes=options.scenes,
        steps=options.steps,
        batch=options.batch,
    )
    drawn = load_or_draw(options.work, recipe.seed, recipe.scenes, SIDE, options.processes)
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists() and not options.fresh:
        run = resume_run(checkpoint, recipe, options.device)
        print(f"resuming at step {run.step:,}")
    else:
        run = new_run(recipe, options.device)
    try:
        finished = train(run, drawn, checkpoint, options.minutes)
    except KeyboardInterrupt:
        finished = False
    if not finished:
        print(f"stopped at step {run.step:,}; the same command resumes there")
        return 1
    _publish(run, options)
    return 0


def _publish(run: Run, options: argparse.Namespace) -> None:
    save_model(run.learner.blip, new_tokenizer(), options.out)
    answers = evaluate(options.out, options.evaluation_seed, options.evaluation_scenes)
    _print_score(answers)
    write_card(
        options.out,
        run,
        _machine(options.device),
        _command(run.recipe),
        _examples(answers),
        score(answers),
    )


def _print_score(answers: list[Answer]) -> None:
    for answer in answers:
        if not answer.exact:
            print(f"  {answer.sample.caption}\n    model: {answer.given}")
    for name, (exact, scenes) in score(answers).items():
        print(f"{name:9} {exact:5,} of {scenes:5,} exact  {exact / scenes:.1%}")


def _command(recipe: Recipe) -> str:
    return (
        f"python -m tools.train_scenes --seed {recipe.seed} --scenes {recipe.scenes} "
        f"--steps {recipe.steps} --batch {recipe.batch}"
    )


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"one {torch.cuda.get_device_name(device)}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}, {torch.get_num_threads()} threads)"


def _examples(answers: list[Answer]) -> list[str]:
    """Return one caption of each form. The words that join the things distinguish the forms."""
    joints = ("inside", "left", "above", "and", ",", "right", "top")
    forms: dict[tuple[bool, ...], str] = {}
    for answer in answers:
        words = answer.sample.caption.replace(",", " ,").split()
        forms.setdefault(tuple(joint in words for joint in joints), answer.sample.caption)
    return sorted(forms.values(), key=len)


if __name__ == "__main__":
    sys.exit(main())

"""The model card, README.md in the saved folder, with the measured figures."""

from pathlib import Path

from tools.scenes.evaluation import EVALUATION_SEED
from tools.scenes.model import PATCH, SIDE, TEXT_LAYERS, VISION_LAYERS, WIDTH
from tools.scenes.scene import HUES, NOUNS
from tools.scenes.training import Run

_CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: image-to-text
library_name: transformers
tags: [blip, synthetic]
---

# captiond/scenes

A small BLIP that captions drawn scenes, such as "a red boat to the left of a yellow sun". It
allows everybody to try and to test captiond without a download. It has the same classes, the same
files and the same loading code as `Salesforce/blip-image-captioning-base`. The weights
take {megabytes:.1f} MB.

**It knows no photographs.** Its caption of a photograph is a fluent and meaningless sentence about
shapes. For photographs, set `[model] name` to `Salesforce/blip-image-captioning-base`.

## What it knows

- {kinds} kinds of things: {nouns}.
- {colours} colours: {hues}.
- One to three things in a scene, and how they are placed, for example:
{examples}

A caption names things from left to right or from top to bottom. It names a thing inside another one
before its container.

## Data

{scenes:,} scenes drawn with Pillow (`tools/scenes/`, seed {seed}): one thing in 20 % of them, two
in 35 %, three in 45 %. These are random: kind, colour, shade, place, size, tilt and
mirroring of a thing; the grey or pale background and its gradient; the size (96 to 240 pixels) and
shape of the picture; noise and JPEG quality (45 to 95). Scenes whose relations are not clear by a
margin are not drawn. No picture, text or weight from another source was used.

## Recipe

```
{command}
```

{parameters:,} parameters ({vision_layers} vision and {text_layers} text layers, {width} wide,
patches of {patch} pixels at {side} × {side}), trained from random weights for
{steps:,} steps of {batch} scenes with AdamW (rate {rate:g}, one cycle with {warm_up:.0%} warm-up,
weight decay {weight_decay:g}, betas {betas}), in bf16 autocast. The first {single_steps:,} steps
use scenes with one thing. In addition to the caption, training predicts the kind and colour of the
thing at each patch (two linear heads, weight {cell_weight:g}). The heads are not part of the model.
The seed is {seed}.

It took {minutes:.0f} minutes on {machine}, {speed:.0f} scenes a second, without the time
to draw the scenes. The weights are stored in fp16. The config names float32 for computation.

## Score

The share of captions that are correct word for word, on {evaluated:,} scenes of another seed
({evaluation_seed}) that training did not use, by greedy search in float32 with the files of this
folder:

| scenes | exact | total | rate |
|---|---|---|---|
{rows}

```
python -m tools.train_scenes --evaluate
```

## Limits

The model knows the things, colours and relations above, drawn by this tool, and nothing else. It
does not know photographs, other drawings, text, or scenes of more than three things. It cannot
report that it does not know an image. Training used no things smaller than a quarter of the
picture's side, and no places between "to the left of" and "above".
"""

Score = dict[str, tuple[int, int]]


def write_card(
    folder: Path, run: Run, machine: str, command: str, examples: list[str], score: Score
) -> None:
    """Write README.md to `folder`. `score` has the exact captions and the scenes of each group."""
    recipe = run.recipe
    rows = [f"| {name} | {hit:,} | {of:,} | {hit / of:.1%} |" for name, (hit, of) in score.items()]
    card = _CARD.format(
        **vars(recipe),
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        kinds=len(NOUNS),
        nouns=", ".join(NOUNS),
        colours=len(HUES),
        hues=", ".join(HUES),
        examples="\n".join(f'  - "{example}"' for example in examples),
        command=command,
        parameters=run.learner.blip.num_parameters(),
        vision_layers=VISION_LAYERS,
        text_layers=TEXT_LAYERS,
        width=WIDTH,
        patch=PATCH,
        side=SIDE,
        minutes=run.seconds / 60,
        machine=machine,
        speed=run.step * recipe.batch / run.seconds,
        evaluated=score["all"][1],
        evaluation_seed=EVALUATION_SEED,
        rows="\n".join(rows),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")

"""The model card, README.md of the saved folder, filled in with what was measured."""

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

A small BLIP that captions drawn scenes, such as "a red boat to the left of a yellow sun". It is
there so that captiond can be seen, tried and tested without a download: the same classes, files and
loading code as `Salesforce/blip-image-captioning-base`, in {megabytes:.1f} MB.

**It knows no photographs.** Shown one, it answers with a fluent and meaningless sentence about
shapes. For photographs set `[model] name` to `Salesforce/blip-image-captioning-base`.

## What it knows

- {kinds} kinds of things: {nouns}.
- {colours} colours: {hues}.
- One to three things to a scene, and where they are, as in:
{examples}

Things are named from left to right or from top to bottom, what lies inside before its container.

## Data

{scenes:,} scenes drawn with Pillow (`tools/scenes/`, seed {seed}): one thing in 20 % of them, two
in 35 %, three in 45 %. Kind, colour and shade, place, size, tilt, mirroring, the grey or pale
background and its gradient, the picture's size (96 to 240 pixels) and shape, noise and JPEG quality
(45 to 95) are by chance. Scenes whose relation is not clear by a margin are not drawn. No picture,
text or weight of anybody else went in.

## Recipe

```
{command}
```

{parameters:,} parameters ({vision_layers} vision and {text_layers} text layers, {width} wide,
patches of {patch} pixels at {side} × {side}), trained from nothing for {steps:,} steps of {batch}
scenes with AdamW (rate {rate:g}, one cycle with {warm_up:.0%} warm-up, weight decay
{weight_decay:g}, betas {betas}), in bf16 autocast; the first {single_steps:,} steps see single
things alone. Beside the caption, training alone asks of each patch the kind and colour of the thing
that covers it (two linear heads, weight {cell_weight:g}); the heads are not part of the model. Seed
{seed}.

It took {minutes:.0f} minutes on {machine}, {speed:.0f} scenes a second, beside the time to draw the
scenes. The weights are stored in fp16; the config asks for float32 to compute in.

## Score

The exact caption, word for word, on {evaluated:,} scenes of another seed ({evaluation_seed}) that
training never saw; greedy decoding in float32 on the files of this folder:

| scenes | exact | of | rate |
|---|---|---|---|
{rows}

```
python -m tools.train_scenes --evaluate
```

## Limits

It knows the things, colours and relations above, drawn by this tool, and nothing else: no
photographs, no other drawings, no text, no more than three things. It never says that it does not
know. Things smaller than a quarter of the picture's side, and places between "to the left of" and
"above", were never shown to it.
"""

Score = dict[str, tuple[int, int]]


def write_card(
    folder: Path, run: Run, machine: str, command: str, examples: list[str], score: Score
) -> None:
    """Writes README.md into `folder`; `score` holds exact captions and scenes by group."""
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

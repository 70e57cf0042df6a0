"""The training loop: batches, losses, the learning rate, and checkpoints from which it resumes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from tools.scenes.dataset import EMPTY, Drawn
from tools.scenes.model import PAD, WIDTH, caption_ids, new_model, new_tokenizer
from tools.scenes.scene import HUES, NOUNS

_IGNORED = -100  # a target that cross_entropy leaves out
_REPORT = 100  # steps between two reports
_SAVE = 500  # steps between two checkpoints


@dataclass(frozen=True)
class Recipe:
    """The parameters of a run. The same recipe on the same machine gives the same model."""

    seed: int = 1
    scenes: int = 240_000
    steps: int = 20_000
    batch: int = 64
    rate: float = 6e-4
    warm_up: float = 0.08  # share of the steps
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    single_steps: int = 500  # first steps, which use only scenes with one thing
    cell_weight: float = 0.5  # weight of the loss for the thing at each patch


class Learner(nn.Module):
    """The BLIP with two heads that only training uses: the kind and the colour at each patch."""

    def __init__(self, blip: BlipForConditionalGeneration) -> None:
        super().__init__()
        self.blip = blip
        self.kind = nn.Linear(WIDTH, len(NOUNS) + 1)
        self.colour = nn.Linear(WIDTH, len(HUES) + 1)

    def forward(self, pixels: Tensor, ids: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return the caption loss and the cell loss.

        pixels [B, 3, side, side], normalised; ids [B, T]; cells [B, patches] of int64.
        """
        hidden = self.blip.vision_model(pixels).last_hidden_state  # [B, 1 + patches, WIDTH]
        logits = self.blip.text_decoder(ids, encoder_hidden_states=hidden, use_cache=False).logits
        following = ids[:, 1:]
        padding = following == PAD
        targets = following.masked_fill(padding, _IGNORED)
        empty = cells == EMPTY
        kinds = torch.where(empty, len(NOUNS), cells // len(HUES))
        colours = torch.where(empty, len(HUES), cells % len(HUES))
        patches = hidden[:, 1:]
        return _cross_entropy(logits[:, :-1], targets), (
            _cross_entropy(self.kind(patches), kinds)
            + _cross_entropy(self.colour(patches), colours)
        )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=_IGNORED
    )


@dataclass
class Run:
    """The state of a training run. `seconds` is the time that its steps have taken so far."""

    recipe: Recipe
    learner: Learner
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0


def new_run(recipe: Recipe, device: str) -> Run:
    """Return a new run, before its first step."""
    torch.manual_seed(recipe.seed)
    learner = Learner(new_model(new_tokenizer())).to(device)
    optimizer = torch.optim.AdamW(
        learner.parameters(),
        lr=recipe.rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    return Run(recipe, learner, optimizer)


def save_run(run: Run, path: Path) -> None:
    """Write the checkpoint. If the write is interrupted, the previous checkpoint remains."""
    part = path.with_suffix(".part")
    state = {
        "recipe": run.recipe.__dict__,
        "learner": run.learner.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "seconds": run.seconds,
    }
    torch.save(state, part)
    part.replace(path)


def resume_run(path: Path, recipe: Recipe, device: str) -> Run:
    """Return the run in the checkpoint at `path`.

    Raises:
        ValueError: The checkpoint was made with another recipe.
    """
    state = torch.load(path, map_location=device, weights_only=True)
    if state["recipe"] != recipe.__dict__:
        raise ValueError(
            f"{path} has another recipe: {state['recipe']}; use it, or remove the file"
        )
    run = new_run(recipe, device)
    run.learner.load_state_dict(state["learner"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.seconds = state["step"], state["seconds"]
    return run


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: a linear rise in the warm-up, then half a cosine to 0."""
    rise = recipe.warm_up * recipe.steps
    if step < rise:
        return recipe.rate * (step + 1) / rise
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (recipe.steps - rise)))


class Batches:
    """The batch of each step. It depends only on the step and on the seed of the recipe."""

    def __init__(self, drawn: Drawn, recipe: Recipe, device: str) -> None:
        self._drawn = drawn
        self._recipe = recipe
        self._device = device
        self._ids = caption_ids(new_tokenizer(), drawn.captions)
        self._singles = np.flatnonzero(drawn.counts == 1)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) * 255
            for values in (BlipImageProcessorPil.image_mean, BlipImageProcessorPil.image_std)
        )

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pixels [B, 3, side, side], ids [B, T] and cells [B, patches] of a step."""
        rng = np.random.default_rng((self._recipe.seed, step))
        if step < self._recipe.single_steps:
            rows = rng.choice(self._singles, self._recipe.batch)
        else:
            rows = rng.integers(len(self._ids), size=self._recipe.batch)
        pixels = torch.from_numpy(self._drawn.pixels[rows]).to(self._device)
        cells = torch.from_numpy(self._drawn.cells[rows]).to(self._device, torch.int64)
        normal = (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std
        ids = self._ids[torch.from_numpy(rows)]
        longest = int((ids != PAD).sum(1).max())
        return normal.contiguous(), ids[:, :longest].to(self._device), cells.flatten(1)


def train(run: Run, drawn: Drawn, checkpoint: Path, minutes: float) -> bool:
    """Train until the last step, or for `minutes`. Return whether the last step was reached.

    The checkpoint is written every 500 steps and at the end, also after Ctrl-C.
    """
    device = next(run.learner.parameters()).device.type
    batches = Batches(drawn, run.recipe, device)
    run.learner.train()
    with _saved_at_exit(run, checkpoint):
        for report in _steps(run, batches, device, minutes):
            print(report, flush=True)
            if run.step % _SAVE == 0:
                save_run(run, checkpoint)
    return run.step == run.recipe.steps


@contextmanager
def _saved_at_exit(run: Run, checkpoint: Path) -> Iterator[None]:
    try:
        yield
    finally:
        save_run(run, checkpoint)


def _steps(run: Run, batches: Batches, device: str, minutes: float) -> Iterator[str]:
    """Run steps, and yield a report after every _REPORT of them."""
    begun, before, losses = time.monotonic(), run.seconds, []
    while run.step < run.recipe.steps and time.monotonic() - begun < 60 * minutes:
        losses.append(_step(run, batches.at(run.step), device))
        run.step += 1
        run.seconds = before + time.monotonic() - begun
        if run.step % _REPORT == 0:
            caption, cell = torch.stack(losses).mean(0).tolist()
            speed = run.step * run.recipe.batch / run.seconds
            yield (
                f"step {run.step:,} of {run.recipe.steps:,}  caption loss {caption:.4f}  "
                f"cell loss {cell:.4f}  {speed:.0f} images/s  {run.seconds / 60:.1f} min"
            )
            losses = []


def _step(run: Run, batch: tuple[Tensor, Tensor, Tensor], device: str) -> Tensor:
    """Run one step of gradient descent in bf16 autocast and return the two losses, [2]."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.recipe, run.step)
    with torch.autocast(device, torch.bfloat16):
        caption, cell = run.learner(*batch)
    run.optimizer.zero_grad()
    (caption + run.recipe.cell_weight * cell).backward()
    nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimizer.step()
    return torch.stack((caption, cell)).detach()

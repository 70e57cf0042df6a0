"""Chooses the ways of a captioner by measuring them on this machine.

A race times a few alternatives in turn, round after round, so that all of them share the same
conditions. The first alternative is the default. Another one is chosen if it is clearly faster and
its result is the same. The next race starts from the winner of the last one.

A machine that is busy with something else makes all of this unreliable. A race notices it in two
ways: this process got less processor time than it wanted, or its runs took unequally long.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from captiond.captioners.choices import ATTENTION, CROSS, LINEAR, ROWS, Choices, default_choices
from captiond.captioners.protocol import Probe, Run
from captiond.captioners.sizing import MOST_ON_CPU, TYPICAL_TOKENS, best_size
from captiond.settings.config import Precision

ROUNDS, LEAST_ROUNDS, RACE_SECONDS = 7, 3, 1.0  # a race stops after its rounds, or this time
LIMIT_SECONDS = 8.0  # no race begins after this time; what is not measured has its default
HOPELESS = 1.3  # after two runs, an alternative that takes longer by this factor is given up
GAIN = 0.02  # an alternative must save this part of the default's time
PRECISION_GAIN = 0.15  # another precision must save this part of the time
LEAST_SHARE = 0.85  # of the processor time that all threads would have on an idle machine
MOST_SPREAD = 1.25  # of the median time of a run to its least time
SAME = 2e-3  # largest difference between the results of two ways, of the largest result
TRUSTED = 2  # runs
TOGETHER = 2  # images; a run encodes a lone image, and then so many
TEXTS, TOKENS = 8, 4  # in a run
T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, and the processor time of all threads of this process, in seconds."""

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] = time.process_time


@dataclass(frozen=True, slots=True)
class Timing:
    """One alternative of a race. `seconds` is the time of an image in the parts that were run."""

    race: str
    alternative: str
    seconds: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the races gave. `quiet` says whether the machine was idle enough to trust it."""

    precision: Precision
    choices: Choices
    threads: int
    batch_size: int
    quiet: bool
    timings: tuple[Timing, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """The least seconds of each alternative, and whether the machine was idle meanwhile."""

    least: dict[str, float]
    quiet: bool


def race(runs: Mapping[str, Run], clock: Clock, threads: int) -> Times:
    """Time some runs in turn. They have run once before."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    begun, used = clock.wall(), clock.processor()
    for number in range(ROUNDS):
        if number >= LEAST_ROUNDS and clock.wall() - begun > RACE_SECONDS:
            break
        for name, run in promising(runs, taken).items():
            before = clock.wall()
            run()
            taken[name].append(clock.wall() - before)
    share = (clock.processor() - used) / (threads * (clock.wall() - begun))
    spread = max(statistics.median(seconds) / min(seconds) for seconds in taken.values() if seconds)
    quiet = share >= LEAST_SHARE and spread <= MOST_SPREAD
    return Times({name: min(seconds) for name, seconds in taken.items()}, quiet)


def least_seconds(run: Run, clock: Clock) -> float:
    """Return the least time of a few runs, after one that warms it up."""
    run()
    taken: list[float] = []
    for _ in range(LEAST_ROUNDS):
        before = clock.wall()
        run()
        taken.append(clock.wall() - before)
    return min(taken)


def promising(runs: Mapping[str, Run], taken: Mapping[str, list[float]]) -> dict[str, Run]:
    """Return the runs that may still win."""
    least = {name: min(seconds) for name, seconds in taken.items() if len(seconds) >= TRUSTED}
    most = HOPELESS * min(least.values(), default=math.inf)
    return {name: run for name, run in runs.items() if least.get(name, most) <= most}


def fastest(times: Mapping[str, float], gain: float = GAIN) -> str:
    """Return the fastest alternative, or the first one if that is nearly as fast."""
    first, winner = next(iter(times)), min(times, key=lambda name: times[name])
    return winner if times[winner] < (1 - gain) * times[first] else first


def with_same_result(name: str, runs: Mapping[str, Run], part: float) -> dict[str, Run]:
    """Run each once. Return those whose result is that of the first one, apart from rounding.

    A result may differ by `part` of the largest number in it.
    """
    expected = next(iter(runs.values()))().float()
    most = part * expected.abs().max().item()
    kept: dict[str, Run] = {}
    for alternative, run in runs.items():
        if torch.allclose(run().float(), expected, rtol=0, atol=most):
            kept[alternative] = run
        else:
            log.warning("alternative_with_other_result", race=name, alternative=alternative)
    return kept


class Tuner:
    """Runs all races for one model. `on_race` is called with the name of each."""

    def __init__(
        self, probe: Probe, on_race: Callable[[str], None] = lambda _: None, clock: Clock = Clock()
    ) -> None:
        self._probe, self._on_race, self._clock = probe, on_race, clock
        self._timings: list[Timing] = []
        self._quiet = True
        self._begun = clock.wall()

    def tune(self, precisions: Sequence[Precision], threads: Sequence[int]) -> Tuning:
        """Return the best choices. The first precision and number of threads are the defaults."""
        torch.set_num_threads(threads[0])
        best = {precision: self._best_choices(precision) for precision in precisions}
        precision = self._best_precision(best)
        count = self._best_threads(precision, best[precision], threads)
        size = self._best_size(precision, best[precision])
        return Tuning(precision, best[precision], count, size, self._quiet, tuple(self._timings))

    def _best_choices(self, precision: Precision) -> Choices:
        """Choose for images first: text decoding is short beside it."""
        usual = default_choices(precision)
        linear = LINEAR if precision == "fp32" else LINEAR[:1]
        attention = first_of(usual.attention, ATTENTION)
        ways: dict[str, Choices] = {way: replace(usual, attention=way) for way in attention}
        choices = ways[self._of_images(f"{precision}: attention of images", precision, ways)]
        ways = {
            f"{way}, {rows} patches": replace(choices, image_linear=way, rows=rows)
            for way in linear
            for rows in ROWS
            if rows == ROWS[0] or self._probe.patches <= rows // 2
        }
        choices = ways[self._of_images(f"{precision}: layers of images", precision, ways)]
        ways = {
            f"{way}, {cross}": replace(choices, text_linear=way, cross=cross)
            for way in linear
            for cross in CROSS
        }
        return ways[self._of_texts(f"{precision}: layers of texts", precision, ways)]

    def _of_images(self, name: str, precision: Precision, ways: Mapping[str, Choices]) -> str:
        runs = {way: self._encoding(precision, ways[way]) for way in ways}
        return self._race(name, runs, 1 + TOGETHER)

    def _of_texts(self, name: str, precision: Precision, ways: Mapping[str, Choices]) -> str:
        runs = {way: self._probe.decode(precision, ways[way], TEXTS, TOKENS) for way in ways}
        return self._race(name, runs, TEXTS)

    def _encoding(self, precision: Precision, choices: Choices) -> Run:
        """Return a run for a lone image, whose client waits, and for images together."""
        alone = self._probe.encode(precision, choices, 1)
        together = self._probe.encode(precision, choices, TOGETHER)

        def run() -> Tensor:
            alone()
            return together()

        return run

    def _best_precision(self, best: Mapping[Precision, Choices]) -> Precision:
        runs: dict[str, Run] = {
            precision: self._encoding(precision, choices) for precision, choices in best.items()
        }
        winner = self._race("precision", runs, 1 + TOGETHER, gain=PRECISION_GAIN, most=math.inf)
        return next(precision for precision in best if precision == winner)

    def _best_threads(self, precision: Precision, choices: Choices, threads: Sequence[int]) -> int:
        encode = self._encoding(precision, choices)
        runs = {str(count): with_threads(encode, count) for count in threads}
        return int(self._race("threads", runs, 1 + TOGETHER))

    def _best_size(self, precision: Precision, choices: Choices) -> int:
        """Return the best batch size, from the time of a layer and the number of layers."""
        self._on_race("batch size")
        probe = self._probe
        image = probe.vision_layers * least_seconds(
            probe.encode(precision, choices, TOGETHER), self._clock
        )

        def seconds(size: int) -> float:
            decode = probe.decode(precision, choices, size, TOKENS)
            steps = TYPICAL_TOKENS / TOKENS * least_seconds(decode, self._clock)
            return size * image / TOGETHER + probe.text_layers * steps

        size = best_size(seconds, MOST_ON_CPU)
        probe.release()
        return size

    def _race(
        self,
        name: str,
        runs: Mapping[str, Run],
        images: int,
        *,
        gain: float = GAIN,
        most: float = SAME,
    ) -> str:
        """Return the name of the winner. `most` is how much the results may differ."""
        first = next(iter(runs))
        if len(runs) == 1:
            return first
        if self._clock.wall() - self._begun > LIMIT_SECONDS:
            self._quiet = False
            return first
        self._on_race(name)
        times = race(with_same_result(name, runs, most), self._clock, torch.get_num_threads())
        self._probe.release()
        winner = fastest(times.least, gain)
        self._quiet = self._quiet and times.quiet
        self._timings += (
            Timing(name, way, seconds / images, way == winner)
            for way, seconds in times.least.items()
        )
        return winner


def first_of(first: T, others: Sequence[T]) -> list[T]:
    """Return the same elements with one of them at the beginning."""
    return [first, *(other for other in others if other != first)]


def with_threads(run: Run, count: int) -> Run:
    """Return a run in a number of threads, which restores the number that was set before."""

    def counted() -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return counted

"""A simulated model process with decoders: how long a single image of another client waits.

The supervisor's dispatcher, the lanes before the decoders and the batcher are the real ones.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hypothesis import example, given
from hypothesis import strategies as st

from captiond.clients import Client
from captiond.jobs import Captioned, Generation, Options, SpooledImage
from captiond.messages import Ask, Finished, Work
from captiond.queues.lanes import ForWork, Lanes
from captiond.supervisor.dispatch import Dispatcher
from captiond.worker.batching import LONGEST_SECONDS, Batcher

BATCH = 8
SECONDS_PER_COST = 0.05 / Generation().cost  # 0.05 s for a usual caption
HEAVY = Generation(num_beams=8, max_new_tokens=100)
ESTIMATE = 0.01  # of the seconds to decode any image
MOST_SECONDS = 2.0  # to decode one: the limit of a decoder
CAPTION = Captioned("a cat", (), "m", 1, 1)


@dataclass(frozen=True)
class Image(ForWork):
    """An image before the decoders, and after them in front of the model."""

    work: Work
    generation: Generation
    cost: float
    seconds: float

    @property
    def group(self) -> Generation:
        return self.generation


@dataclass
class Simulation:
    """One model process with a clock of its own. An image's name says how long it is decoded."""

    decoders: int
    now: float = 0.0
    longest_batch: float = 0.0
    captioning: bool = False
    answered: dict[int, float] = field(default_factory=dict)  # times by ticket
    dispatcher: Dispatcher = field(default_factory=lambda: Dispatcher(10_000))
    waiting: Lanes[Image] = field(default_factory=Lanes)
    batcher: Batcher[Image] = field(default_factory=lambda: Batcher(BATCH))
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.dispatcher.model_ready("model", 3 * BATCH, reserve=BATCH)

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, next(self.numbers), event))

    def run(self) -> None:
        while self.events:
            self.now, _, event = heapq.heappop(self.events)
            event()

    def ask(self, ticket: int, client: str, decode: list[float], generation: Generation) -> None:
        images = tuple(SpooledImage(str(seconds), 0, 1, "sha") for seconds in decode)
        asked = Ask(ticket, images, Options(generation), client=Client(client))
        assert self.dispatcher.ask("web", asked) == []
        self.dispatch()

    def dispatch(self) -> None:
        for _, work in self.dispatcher.assign_interactive():
            generation = work.options.generation or Generation()
            self.waiting.put(Image(work, generation, ESTIMATE, float(work.image.file)))
        self.decode()

    def decode(self) -> None:
        while self.decoders and self.waiting:
            (image,) = self.waiting.take(1)
            self.decoders -= 1
            self.at(self.now + image.seconds, lambda image=image: self.decoded(image))  # type: ignore[misc]

    def decoded(self, image: Image) -> None:
        self.decoders += 1
        self.waiting.finished(image, extra=image.seconds - ESTIMATE)
        self.batcher.put(Image(image.work, image.generation, image.generation.cost, 0.0))
        self.decode()
        self.caption()

    def caption(self) -> None:
        if self.captioning or not self.batcher:
            return
        batch, begun = self.batcher.take(), self.now
        seconds = SECONDS_PER_COST * sum(image.cost for image in batch)
        self.longest_batch = max(self.longest_batch, seconds)
        self.captioning = True
        self.at(begun + seconds, lambda: self.captioned(batch, begun))

    def captioned(self, batch: list[Image], begun: float) -> None:
        self.captioning = False
        self.batcher.batch_ended(batch, begun, self.now)
        for image in batch:
            _, (answer,) = self.dispatcher.finish("model", Finished(image.ticket, CAPTION))
            self.answered[answer.answer.ticket] = self.now
        self.dispatch()
        self.caption()


DECODING = st.sampled_from([0.001, 0.01, 0.2, MOST_SECONDS])


@given(
    st.lists(DECODING, min_size=1, max_size=120),
    st.sampled_from([Generation(), HEAVY]),
    st.integers(1, 4),
    st.lists(st.floats(0, 60), min_size=1, max_size=4),
)
@example([MOST_SECONDS] * 50, Generation(), 1, [1.0, 9.5])
@example([0.001] * 100, HEAVY, 1, [1.0, 9.5])
def test_a_single_image_waits_for_two_batches_and_one_decoding(
    flood: list[float], generation: Generation, decoders: int, times: list[float]
) -> None:
    """Whatever another client has sent before it, and whatever its images take."""
    made = Simulation(decoders)
    made.ask(0, "flood", flood, generation)
    for number, time in enumerate(times):
        ticket, client = 1000 + number, f"other{number}"

        def ask(ticket: int = ticket, client: str = client) -> None:
            made.ask(ticket, client, [0.001], Generation())

        made.at(time, ask)
    made.run()
    assert made.longest_batch <= LONGEST_SECONDS
    for number, time in enumerate(times):
        waited = made.answered[1000 + number] - time
        assert waited <= 2 * made.longest_batch + MOST_SECONDS + 0.01 * len(times)
    assert len(made.answered) == len(flood) + len(times), "all are answered"


@given(st.integers(2, 6), st.integers(1, 3))
def test_clients_that_all_have_images_waiting_progress_alike(clients: int, decoders: int) -> None:
    made = Simulation(decoders)
    for number in range(clients):
        seconds = 0.2 if number == 0 else 0.01
        made.ask(1000 * number, str(number), [seconds] * 40, Generation())
    made.run()
    halves = [made.answered[1000 * number + 20] for number in range(1, clients)]
    assert max(halves) - min(halves) <= 3 * made.longest_batch


def test_one_client_alone_has_all_of_the_service() -> None:
    """The decoder and then the model are never idle while an image waits for them."""
    made = Simulation(decoders=1)
    made.ask(0, "alone", [0.01] * 200, Generation())
    made.run()
    assert max(made.answered.values()) <= 200 * 0.05 + 2 * made.longest_batch

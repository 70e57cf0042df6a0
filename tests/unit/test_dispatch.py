"""Which process gets which image, and what happens to images when processes exit."""

from itertools import count

import pytest

from captiond.clients import Client
from captiond.deaths import Death
from captiond.jobs import Captioned, Generation, Lane, Options, Refused, SpooledImage
from captiond.messages import Ask, Finished, Withdraw, Work
from captiond.shardimages import ShardImage
from captiond.supervisor.dispatch import Dispatcher, WebAnswer, Withdrawal

IMAGE = SpooledImage("a", 0, 9, "sha")
CAPTION = Captioned("a cat", ("cat",), "m", 1, 1)


def dispatcher(asks: int, *, max_waiting: int = 100) -> Dispatcher:
    made = Dispatcher(max_waiting)
    for number in range(asks):
        assert made.ask("web", Ask(number, (IMAGE,))) == []
    return made


def bulk(number: int) -> Work:
    return Work(f"image:{number}:1", Lane.BULK, IMAGE, image_id=number, attempt=1)


def test_interactive_images_go_to_the_process_with_most_capacity_up_to_its_window() -> None:
    made = dispatcher(5)
    assert list(made.assign_interactive()) == []
    made.model_ready("a", 2)
    made.model_ready("b", 2)
    assert sorted(model for model, _ in made.assign_interactive()) == ["a", "a", "b", "b"]
    assert made.waiting == 1
    made.finish("b", Finished("web:1", CAPTION))
    assert [model for model, _ in made.assign_interactive()] == ["b"]


def test_the_lanes_have_a_window_each() -> None:
    made = dispatcher(2)
    made.model_ready("a", 2)
    for number in range(2):
        made.assign_bulk("a", bulk(number))
    assert made.bulk_capacity() == []
    assert len(list(made.assign_interactive())) == 2


def test_an_answer_goes_to_its_requester_once() -> None:
    made = dispatcher(1)
    made.model_ready("a", 1)
    list(made.assign_interactive())
    work, (answer,) = made.finish("a", Finished("web:0", CAPTION))
    assert work is not None
    assert (answer.web, answer.answer.ticket, answer.answer.outcome) == ("web", 0, CAPTION)
    assert made.finish("a", Finished("web:0", CAPTION)) == (None, [])


def codes(answers: list[WebAnswer]) -> dict[int, tuple[int, str]]:
    """The statuses and codes of refusals, by their tickets."""
    outcomes = {answer.answer.ticket: answer.answer.outcome for answer in answers}
    return {n: (o.status, o.code) for n, o in outcomes.items() if isinstance(o, Refused)}


def by(client: str, ticket: int, images: int = 1, *, weight: float = 1.0) -> Ask:
    return Ask(ticket, (IMAGE,) * images, client=Client(client, weight))


def test_a_full_queue_refuses_with_503() -> None:
    made = dispatcher(5, max_waiting=10)
    assert codes(made.ask("web", Ask(9, (IMAGE,)))) == {9: (503, "queue_full")}
    made.model_ready("a", 1)
    list(made.assign_interactive())
    assert made.ask("web", Ask(9, (IMAGE,))) == []


def test_a_request_is_accepted_or_refused_as_a_whole() -> None:
    """Its images are not refused because they themselves fill the queue."""
    made = Dispatcher(10)
    assert made.ask("web", by("large", 0, 100)) == []
    assert made.waiting == 100
    assert codes(made.ask("web", by("large", 100, 2))) == {
        100: (503, "queue_full"),
        101: (503, "queue_full"),
    }


def test_nobody_can_fill_the_queue_for_the_others() -> None:
    made = Dispatcher(100)
    tickets = count()
    accepted = {
        name: sum(made.ask("web", by(name, next(tickets))) == [] for _ in range(200))
        for name in "abcd"
    }
    assert accepted == {"a": 50, "b": 33, "c": 17, "d": 1}
    assert made.waiting == 101, "a client without images may always send a request"
    assert made.ask("web", by("e", 1000, 20)) == []
    assert codes(made.ask("web", by("e", 2000))) == {2000: (503, "queue_full")}
    heavy = Dispatcher(100)
    assert sum(heavy.ask("web", by("a", n, weight=1.5)) == [] for n in range(200)) == 75


def test_there_are_at_most_as_many_clients_as_images_may_wait() -> None:
    made = Dispatcher(3)
    assert [bool(made.ask("web", by(f"c{n}", n))) for n in range(5)] == [False] * 3 + [True] * 2


def test_clients_have_turns() -> None:
    made = Dispatcher(1000)
    made.ask("web", by("flood", 0, 100))
    made.model_ready("a", 10)
    assert len(list(made.assign_interactive())) == 10
    made.ask("web", by("mine", 500))
    made.ask("web", by("other", 600, 5))
    for number in range(3):
        made.finish("a", Finished(f"web:{number}", CAPTION))
    assert [work.client.name for _, work in made.assign_interactive()] == ["mine", "other", "flood"]


def test_a_client_that_comes_anew_does_not_wait_for_an_image_of_another_client() -> None:
    """Each process has a reserve for such images, of which every client gets one."""
    made = Dispatcher(1000)
    made.model_ready("a", 10, reserve=2)
    made.ask("web", by("flood", 0, 100))
    assert len(list(made.assign_interactive())) == 10
    for number, name in enumerate(["b", "c", "d"]):
        made.ask("web", by(name, 500 + 10 * number, 2))
    assert [work.client.name for _, work in made.assign_interactive()] == ["b", "c"]
    made.finish("a", Finished("web:500", CAPTION))
    assert [work.client.name for _, work in made.assign_interactive()] == ["d"]


def test_images_that_need_many_steps_of_the_model_take_more_of_a_turn() -> None:
    made = Dispatcher(1000)
    heavy = Options(generation=Generation(num_beams=8, max_new_tokens=100))
    made.ask("web", Ask(0, (IMAGE,) * 50, heavy, client=Client("heavy")))
    made.ask("web", by("usual", 100, 50))
    made.model_ready("a", 34)
    names = [work.client.name for _, work in made.assign_interactive()]
    assert (names.count("heavy"), names.count("usual")) == (2, 32)


def test_images_return_to_the_head_of_their_clients_queue_when_their_process_dies() -> None:
    made = Dispatcher(1000)
    made.ask("web", by("x", 0, 4))
    made.ask("web", by("y", 10, 4))
    made.model_ready("a", 4)
    first = [work.ticket for _, work in made.assign_interactive()]
    made.drop("web", [10])
    made.model_exited("a", Death.KILLED)
    assert made.waiting == 7
    made.model_ready("b", 4)
    again = [work.ticket for _, work in made.assign_interactive()]
    assert first == ["web:0", "web:10", "web:1", "web:11"]
    assert again == ["web:0", "web:11", "web:1", "web:12"]
    made.model_exited("b", Death.KILLED)
    made.model_ready("c", 9)
    assert [work.ticket for _, work in made.assign_interactive()] == [
        "web:12",
        "web:2",
        "web:13",
        "web:3",
    ]


def test_a_dropped_batch_costs_the_same_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is looked for among the others."""
    made = Dispatcher(10_000)
    made.ask("web", by("x", 0, 5000))
    compared = 0

    def eq(one: Work, other: object) -> bool:
        nonlocal compared
        compared += 1
        return one is other

    monkeypatch.setattr(Work, "__eq__", eq)
    assert made.drop("web", range(5000)) == []
    assert (made.waiting, compared) == (0, 0)


def test_a_known_image_does_not_wait_for_a_process_that_may_come() -> None:
    """The process that loaded its model has exited while the client sent the image."""
    made = dispatcher(0)
    made.model_loading("a", 2)
    assert made.ask("web", Ask(1, (IMAGE,), known_only=True)) == []
    list(made.assign_interactive())
    made.finish("a", Finished("web:1", CAPTION))
    made.model_exited("a", Death.ORDERLY)
    (answer,) = made.ask("web", Ask(2, (IMAGE,), known_only=True))
    assert isinstance(answer.answer.outcome, Refused)
    assert (answer.answer.outcome.status, answer.answer.outcome.code) == (503, "model_not_ready")
    assert made.waiting == 0


def test_after_a_death_images_wait_again_in_front_and_after_two_they_are_answered() -> None:
    made = dispatcher(4)
    made.model_ready("a", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:1"]
    assert made.model_exited("a", Death.KILLED).answers == []
    made.model_ready("b", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:1"]
    answers = made.model_exited("b", Death.KILLED).answers
    assert [answer.answer.ticket for answer in answers] == [0, 1]
    outcomes = [answer.answer.outcome for answer in answers]
    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    assert "worker_lost" in str(outcomes)
    made.model_ready("c", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:2", "web:3"]


def test_an_image_whose_client_has_gone_is_not_begun() -> None:
    made = dispatcher(3)
    made.drop("web", [1])
    made.ask("other", Ask(0, (IMAGE,)))
    made.web_exited("other")
    made.model_ready("a", 9)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:2"]


def test_an_image_whose_client_has_gone_is_withdrawn_from_its_process() -> None:
    made = dispatcher(1)
    made.model_ready("a", 9)
    list(made.assign_interactive())
    made.assign_bulk("a", bulk(7))
    assert made.drop("web", [0]) == [Withdrawal("a", Withdraw("web:0"))]
    assert made.drop("web", [0]) == []
    assert made.cancel(frozenset({7, 8})) == [Withdrawal("a", Withdraw("image:7:1"))]
    assert made.finish("a", Finished("web:0", CAPTION))[1] == []


def test_a_death_blames_the_batch_that_was_running_and_nothing_else() -> None:
    made = dispatcher(2)
    made.model_ready("a", 9)
    list(made.assign_interactive())
    for number in range(3):
        made.assign_bulk("a", bulk(number))
    made.model_begun("a", ("image:0:1", "web:0"))
    exit_ = made.model_exited("a", Death.CRASHED)
    assert set(exit_.blamed) == {0}
    assert [work.image_id for work in exit_.bulk] == [0, 1, 2]
    made.model_ready("b", 9)
    again = {work.ticket: work.alone for _, work in made.assign_interactive()}
    assert again == {"web:0": True, "web:1": False}


def test_an_orderly_end_and_a_batch_that_is_over_blame_nobody() -> None:
    made = dispatcher(0)
    for death in (Death.ORDERLY, Death.CRASHED):
        made.model_ready("a", 9)
        made.assign_bulk("a", bulk(1))
        made.model_begun("a", ("image:1:1",))
        if death is Death.CRASHED:
            made.finish("a", Finished("image:1:1", CAPTION))
        assert made.model_exited("a", death).blamed == {}


def test_waiting_images_are_answered_when_no_process_will_take_them() -> None:
    made = dispatcher(3)
    made.model_ready("a", 1)
    list(made.assign_interactive())
    answers = made.refuse_waiting(Refused("no model", "model_not_ready", 503))
    assert [(answer.web, answer.answer.ticket) for answer in answers] == [("web", 1), ("web", 2)]
    assert made.waiting == 0
    assert made.finish("a", Finished("web:0", CAPTION))[1] != [], (
        "a model process has one, and it is answered"
    )
    assert made.refuse_waiting(Refused("no model", "model_not_ready", 503)) == []


def test_a_report_of_a_process_that_is_not_ready_changes_nothing() -> None:
    made = dispatcher(0)
    made.model_begun("gone", ("web:0",))
    assert made.running("gone") == frozenset()
    assert made.finish("gone", Finished("web:0", CAPTION)) == (None, [])


def test_a_loading_process_gets_no_bulk_images_while_another_is_ready() -> None:
    """It would hold images that the other one could caption."""
    made = Dispatcher(9)
    made.model_loading("loading", 4)
    assert made.bulk_capacity() == [("loading", 4)]
    made.model_ready("ready", 2)
    assert made.bulk_capacity() == [("ready", 2)]
    made.model_ready("loading", 3)
    assert made.bulk_capacity() == [("loading", 3), ("ready", 2)]


def test_images_of_imports_are_blamed_as_well() -> None:
    """The process claims them itself, so the dispatcher knows their tickets only."""
    made = dispatcher(0)
    made.model_ready("a", 2)
    image = ShardImage("import_1", 3, 1, 7)
    made.assign_bulk("a", bulk(1))
    made.model_begun("a", (image.ticket, "image:1:1", "web:9"))
    assert made.running("a") == {image.ticket, "image:1:1"}
    assert [work.ticket for work in made.running_work("a")] == ["image:1:1"]
    exit_ = made.model_exited("a", Death.CRASHED)
    assert (exit_.blamed, exit_.blamed_imported) == ({1: 1}, {image: 1})

"""Who gets which image, and what becomes of it when processes die."""

from captiond.jobs import Captioned, Death, Lane, Refused, SpooledImage
from captiond.messages import Ask, Finished, Withdraw, Work
from captiond.supervisor.dispatch import Dispatcher, Withdrawal

IMAGE = SpooledImage("a", 0, 9, "sha")
CAPTION = Captioned("a cat", ("cat",), "m", 1, 1)


def dispatcher(asks: int, *, max_waiting: int = 100) -> Dispatcher:
    made = Dispatcher(max_waiting)
    for number in range(asks):
        assert made.ask("web", Ask(number, IMAGE)) == []
    return made


def bulk(number: int) -> Work:
    return Work(f"image:{number}:1", Lane.BULK, IMAGE, image_id=number, attempt=1)


def test_interactive_images_go_where_there_is_most_room_and_never_over_the_window() -> None:
    made = dispatcher(5)
    assert list(made.assign_interactive()) == []
    made.model_ready("a", 2)
    made.model_ready("b", 2)
    assert sorted(model for model, _ in made.assign_interactive()) == ["a", "a", "b", "b"]
    assert made.waiting == 1
    made.settle("b", Finished("web:1", CAPTION))
    assert [model for model, _ in made.assign_interactive()] == ["b"]


def test_the_lanes_have_a_window_each() -> None:
    made = dispatcher(2)
    made.model_ready("a", 2)
    for number in range(2):
        made.assign_bulk("a", bulk(number))
    assert made.bulk_room() == []
    assert len(list(made.assign_interactive())) == 2


def test_an_answer_finds_its_asker_once() -> None:
    made = dispatcher(1)
    made.model_ready("a", 1)
    list(made.assign_interactive())
    work, (reply,) = made.settle("a", Finished("web:0", CAPTION))
    assert work is not None
    assert (reply.web, reply.answer.ticket, reply.answer.outcome) == ("web", 0, CAPTION)
    assert made.settle("a", Finished("web:0", CAPTION)) == (None, [])


def test_a_full_queue_refuses_with_503() -> None:
    made = dispatcher(2, max_waiting=2)
    (reply,) = made.ask("web", Ask(9, IMAGE))
    assert isinstance(reply.answer.outcome, Refused)
    assert (reply.answer.outcome.status, reply.answer.outcome.code) == (503, "queue_full")


def test_after_a_death_images_wait_again_in_front_and_after_two_they_are_answered() -> None:
    made = dispatcher(4)
    made.model_ready("a", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:1"]
    assert made.model_gone("a", Death.KILLED).replies == []
    made.model_ready("b", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:1"]
    replies = made.model_gone("b", Death.KILLED).replies
    assert [reply.answer.ticket for reply in replies] == [0, 1]
    outcomes = [reply.answer.outcome for reply in replies]
    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    assert "worker_lost" in str(outcomes)
    made.model_ready("c", 2)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:2", "web:3"]


def test_what_nobody_waits_for_is_not_begun() -> None:
    made = dispatcher(3)
    made.drop("web", 1)
    made.ask("other", Ask(0, IMAGE))
    made.web_gone("other")
    made.model_ready("a", 9)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:2"]


def test_what_nobody_waits_for_any_more_is_withdrawn_from_where_it_is() -> None:
    made = dispatcher(1)
    made.model_ready("a", 9)
    list(made.assign_interactive())
    made.assign_bulk("a", bulk(7))
    assert made.drop("web", 0) == [Withdrawal("a", Withdraw("web:0"))]
    assert made.drop("web", 0) == []
    assert made.cancel(frozenset({7, 8})) == [Withdrawal("a", Withdraw("image:7:1"))]
    assert made.settle("a", Finished("web:0", CAPTION))[1] == []


def test_a_death_blames_the_batch_that_was_running_and_nothing_else() -> None:
    made = dispatcher(2)
    made.model_ready("a", 9)
    list(made.assign_interactive())
    for number in range(3):
        made.assign_bulk("a", bulk(number))
    made.model_begun("a", ("image:0:1", "web:0"))
    loss = made.model_gone("a", Death.CRASHED)
    assert set(loss.blamed) == {0}
    assert [work.image_id for work in loss.bulk] == [0, 1, 2]
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
            made.settle("a", Finished("image:1:1", CAPTION))
        assert made.model_gone("a", death).blamed == {}


def test_those_who_wait_are_told_when_nobody_will_come() -> None:
    made = dispatcher(3)
    made.model_ready("a", 1)
    list(made.assign_interactive())
    replies = made.refuse_waiting(Refused("no model", "model_not_ready", 503))
    assert [(reply.web, reply.answer.ticket) for reply in replies] == [("web", 1), ("web", 2)]
    assert made.waiting == 0
    assert made.settle("a", Finished("web:0", CAPTION))[1] != [], "one is in hand, and is answered"
    assert made.refuse_waiting(Refused("no model", "model_not_ready", 503)) == []

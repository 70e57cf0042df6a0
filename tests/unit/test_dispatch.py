"""Which process gets which image, and what happens to images when processes exit."""

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


def test_a_full_queue_refuses_with_503() -> None:
    made = dispatcher(2, max_waiting=2)
    (answer,) = made.ask("web", Ask(9, IMAGE))
    assert isinstance(answer.answer.outcome, Refused)
    assert (answer.answer.outcome.status, answer.answer.outcome.code) == (503, "queue_full")


def test_a_known_image_does_not_wait_for_a_process_that_may_come() -> None:
    """The process that loaded its model has exited while the client sent the image."""
    made = dispatcher(0)
    made.model_loading("a", 2)
    assert made.ask("web", Ask(1, IMAGE, known_only=True)) == []
    list(made.assign_interactive())
    made.finish("a", Finished("web:1", CAPTION))
    made.model_exited("a", Death.ORDERLY)
    (answer,) = made.ask("web", Ask(2, IMAGE, known_only=True))
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
    made.drop("web", 1)
    made.ask("other", Ask(0, IMAGE))
    made.web_exited("other")
    made.model_ready("a", 9)
    assert [work.ticket for _, work in made.assign_interactive()] == ["web:0", "web:2"]


def test_an_image_whose_client_has_gone_is_withdrawn_from_its_process() -> None:
    made = dispatcher(1)
    made.model_ready("a", 9)
    list(made.assign_interactive())
    made.assign_bulk("a", bulk(7))
    assert made.drop("web", 0) == [Withdrawal("a", Withdraw("web:0"))]
    assert made.drop("web", 0) == []
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

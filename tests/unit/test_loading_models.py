"""What the supervisor gives to a model process that is still loading its model."""

from captiond.jobs import Lane, SpooledImage
from captiond.messages import Ask, Work
from captiond.supervisor.dispatch import Dispatcher

IMAGE = SpooledImage("s", 0, 1, "sha")


def test_a_loading_process_gets_bulk_images_only() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.ask("web0", Ask(1, IMAGE))
    dispatcher.model_loading("model0", 64)
    assert list(dispatcher.assign_interactive()) == []
    assert dispatcher.bulk_capacity() == [("model0", 64)]


def test_a_process_keeps_its_bulk_images_when_its_model_is_loaded() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.model_loading("model0", 64)
    for number in range(5):
        dispatcher.assign_bulk("model0", Work(str(number), Lane.BULK, IMAGE, number))
    dispatcher.model_ready("model0", 6)
    assert dispatcher.bulk_capacity() == [("model0", 1)]
    dispatcher.ask("web0", Ask(1, IMAGE))
    assert [model for model, _ in dispatcher.assign_interactive()] == ["model0"]

"""What the supervisor gives to a model process that is still loading its model."""

from captiond.deaths import Death
from captiond.jobs import Lane, Refused, SpooledImage
from captiond.messages import Ask, Health, Unready, Work
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.health import ModelHealth

IMAGE = SpooledImage("s", 0, 1, "sha")


def test_a_loading_process_gets_bulk_images_only() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.ask("web0", Ask(1, (IMAGE,)))
    dispatcher.model_loading("model0", 64)
    assert list(dispatcher.assign_interactive()) == []
    assert dispatcher.bulk_capacity() == [("model0", 64)]


def test_a_loading_process_gets_interactive_images_that_ask_for_known_captions() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.model_loading("model0", 64)
    dispatcher.ask("web0", Ask(1, (IMAGE,)))
    dispatcher.ask("web0", Ask(2, (IMAGE,), known_only=True))
    assert dispatcher.waiting == 2
    ((model, work),) = dispatcher.assign_interactive()
    assert (model, work.ticket, work.known_only) == ("model0", "web0:2", True)
    dispatcher.model_exited("model0", Death.CRASHED)
    assert dispatcher.waiting == 2
    assert len(dispatcher.refuse_waiting(Refused("no", "model_not_ready", 503))) == 2
    assert dispatcher.waiting == 0


def test_a_client_that_goes_takes_its_image_out_of_either_queue() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.model_loading("model0", 64)
    dispatcher.ask("web0", Ask(1, (IMAGE,)))
    dispatcher.ask("web0", Ask(2, (IMAGE,), known_only=True))
    assert dispatcher.waiting == 2
    for ticket in (1, 2):
        dispatcher.drop("web0", [ticket])
    assert dispatcher.waiting == 0


def test_the_state_says_whether_known_images_are_answered() -> None:
    models = ModelHealth({"model0": None})
    states = [models.state(draining=False)]
    models.loading("model0")
    states.append(models.state(draining=False))
    models.report("model0", Unready("broken", "model_broken"))
    states.append(models.state(draining=False))
    models.loading("model0")
    models.exited("model0", Death.CRASHED)
    states.append(models.state(draining=False))
    assert [state.cache for state in states] == [False, True, False, False]
    assert [state.health for state in states] == [
        Health.STARTING,
        Health.STARTING,
        Health.UNHEALTHY,
        Health.UNHEALTHY,
    ]


def test_a_process_keeps_its_bulk_images_when_its_model_is_loaded() -> None:
    dispatcher = Dispatcher(max_waiting=10)
    dispatcher.model_loading("model0", 64)
    for number in range(5):
        dispatcher.assign_bulk("model0", Work(str(number), Lane.BULK, IMAGE, number))
    dispatcher.model_ready("model0", 6)
    assert dispatcher.bulk_capacity() == [("model0", 1)]
    dispatcher.ask("web0", Ask(1, (IMAGE,)))
    assert [model for model, _ in dispatcher.assign_interactive()] == ["model0"]

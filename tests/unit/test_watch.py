"""When a model process counts as hung."""

from captiond.deaths import BLAME_LIMIT, Death, blame
from captiond.supervisor.watch import START_TICKS, Watch


def test_a_process_that_sends_messages_is_never_hung() -> None:
    watch = Watch(silence_ticks=3, batch_ticks=5)
    for _ in range(100):
        watch.received()
        assert watch.tick(busy=False) is None


def test_silence_is_a_hang_and_the_first_message_may_take_long() -> None:
    watch = Watch(silence_ticks=3, batch_ticks=5)
    assert [watch.tick(busy=False) for _ in range(START_TICKS)] == [None] * START_TICKS
    watch.received()
    assert [watch.tick(busy=False) for _ in range(3)] == [None] * 3
    assert watch.tick(busy=False) == "silent for 4 seconds"


def test_a_batch_that_never_ends_is_a_hang_though_messages_arrive() -> None:
    watch = Watch(silence_ticks=3, batch_ticks=5)
    for _ in range(5):
        watch.received()
        assert watch.tick(busy=True) is None
    watch.received(new_batch=True)
    for _ in range(5):
        watch.received()
        assert watch.tick(busy=True) is None
    watch.received()
    assert watch.tick(busy=True) == "one batch takes more than 5 seconds"


def test_two_crashes_alone_are_poison_whatever_came_before_and_one_is_not() -> None:
    for before in (0, blame(Death.CRASHED, 8)):
        alone = blame(Death.CRASHED, 1)
        assert before + alone < BLAME_LIMIT <= before + 2 * alone
    assert blame(Death.HUNG, 1) == blame(Death.CRASHED, 1)


def test_a_kill_weighs_little_and_an_orderly_end_nothing() -> None:
    assert 5 * blame(Death.KILLED, 1) < BLAME_LIMIT <= 6 * blame(Death.KILLED, 1)
    assert blame(Death.ORDERLY, 1) == blame(Death.CRASHED, 0) == 0

import pytest

from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import PassRequest, RunningTask, Scheduler, at_once


def test_the_clock_books_every_second_once():
    clock = Clock()
    start = clock._last
    for stage in ("a", "b", "a"):
        clock.lap(stage)
    assert list(clock.laps) == ["a", "b"]
    assert sum(clock.laps.values()) == pytest.approx(clock._last - start)


def test_what_was_done_for_others_is_not_booked():
    clock = Clock()
    clock._last -= 1000
    clock.resume()
    clock.lap("mine")
    clock.add("passes", 2)
    clock.add("passes", 3)
    assert clock.laps["mine"] < 500
    assert clock.laps["passes"] == 5


def test_a_work_that_asks_for_nothing():
    assert RunningTask(at_once(3)).result() == 3

    def asking():
        yield PassRequest(1, lambda *_: None, lambda *_: None, Clock())

    with pytest.raises(ValueError, match="not enough values"):
        RunningTask(asking()).result()


def test_what_passes_took_is_booked_under_the_asking_work():
    clock = Clock()

    def work():
        yield PassRequest(4, lambda *_: None, lambda *_: None, clock)
        clock.lap("after")
        return "done"

    begun = RunningTask(work())
    clock._last -= 1000  # another picture's time
    for _ in range(2):
        assert begun.passes_wanted
        begun.take([0, 0], 1.5)
    assert begun.result() == "done"
    assert begun.passes_wanted == 0
    assert clock.laps["masked_passes"] == 3
    assert clock.laps["after"] < 500


def asks(count=1, fill=lambda *_: None, take=lambda *_: None):
    """A work that asks once, and finds what went wrong with that, if anything did that it can survive."""
    try:
        yield PassRequest(count, fill, take, Clock())
    except ValueError as error:
        return str(error)
    return "all well"


def refuse(*_):
    raise ValueError("refused")


def test_what_goes_wrong_is_raised_where_the_work_waits():
    begun = RunningTask(asks())
    assert not begun.ended
    begun.fail(ValueError("no"))
    assert begun.ended
    assert begun.result() == "no"


def test_a_work_that_cannot_fill_or_take_is_told():
    begun = RunningTask(asks(fill=refuse))
    assert not begun.fill([0])
    assert begun.result() == "refused"
    begun = RunningTask(asks(take=refuse))
    assert begun.fill([0])
    begun.take([0], 1.0)
    assert begun.result() == "refused"


def test_what_a_work_does_not_survive_is_its_result():
    begun = RunningTask(asks())
    begun.fail(KeyError("why"))
    assert begun.ended
    assert begun.passes_wanted == 0
    with pytest.raises(KeyError, match="why"):
        begun.result()
    assert begun.error is None  # or it would keep all that the work had in its hands


def test_works_together_are_begun_as_they_are_needed():
    runs = []

    def run(begun):
        runs.append([w.passes_wanted for w in begun])
        for each in tuple(begun):
            if each.passes_wanted:
                each.take([0] * each.passes_wanted, 0.0)
        return 1

    begun = []

    def works():
        for n in range(5):
            begun.append(n)
            yield asks(count=2)

    together = Scheduler(run, chunk=4, most=3)
    assert next(together.run(works())) == "all well"
    assert (begun, runs) == ([0, 1], [[2, 2]])
    assert list(Scheduler(run, chunk=100, most=3).run(works())) == ["all well"] * 5
    assert max(map(len, runs)) == 3

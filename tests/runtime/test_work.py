import pytest

from fusioncam.runtime.work import Clock, Request, UnderWay, at_once, finished


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
    clock.book("passes", 2)
    clock.book("passes", 3)
    assert clock.laps["mine"] < 500
    assert clock.laps["passes"] == 5


def test_a_work_that_asks_for_nothing():
    assert finished(at_once(3)) == 3

    def asking():
        yield Request(1, lambda *_: None, lambda *_: None, Clock())

    with pytest.raises(ValueError, match="not enough values"):
        finished(asking())


def test_what_passes_took_is_booked_under_the_asking_work():
    clock = Clock()

    def work():
        yield Request(4, lambda *_: None, lambda *_: None, clock)
        clock.lap("after")
        return "done"

    begun = UnderWay(work())
    clock._last -= 1000  # another picture's time
    for _ in range(2):
        assert begun.wanted
        begun.take([0, 0], 1.5)
    assert begun.found == ["done"]
    assert begun.wanted == 0
    assert clock.laps["masked_passes"] == 3
    assert clock.laps["after"] < 500

"""Captures exclude every other call, and finalizers never wait for them."""

import os
import signal
import threading

import pytest

from fusioncam.kernels.captures import Captures


@pytest.fixture
def captures():
    return Captures()


def thread(work):
    made = threading.Thread(target=work, daemon=True)
    made.start()
    return made


def test_calls_share_and_a_capture_is_alone(captures):
    inside, seen, start = [], [], threading.Barrier(4)

    def call():
        start.wait()
        for _ in range(300):
            with captures.shared():
                inside.append("call")
                seen.append(inside.count("capture"))
                inside.remove("call")

    def capture():
        start.wait()
        for _ in range(300):
            with captures.alone():
                inside.append("capture")
                seen.append(len(inside) - 1)
                inside.remove("capture")

    for each in [thread(work) for work in (call, call, capture, capture)]:
        each.join(60)
        assert not each.is_alive(), "they wait for each other"
    assert len(seen) == 1200
    assert not any(seen)


def test_two_calls_are_not_in_each_others_way(captures):
    with captures.shared():
        other = thread(lambda: captures.shared().__enter__())
        other.join(10)
        assert not other.is_alive()


def test_a_capture_that_waits_goes_before_later_calls(captures):
    order, waits = [], threading.Event()

    def capture():
        waits.set()
        with captures.alone():
            order.append("capture")

    def call():
        with captures.shared():
            order.append("call")

    with captures.shared():
        first = thread(capture)
        waits.wait()
        while not captures._waiting:
            pass
        second = thread(call)
    first.join(10)
    second.join(10)
    assert order == ["capture", "call"]


def test_a_capture_that_waits_for_a_long_call_holds_no_other_up(captures):
    order = []

    def capture():
        with captures.alone():
            order.append("capture")

    def call():
        with captures.shared():
            order.append("call")

    with captures.shared(long=True):
        first = thread(capture)
        while not captures._waiting:
            pass
        second = thread(call)
        second.join(10)
        assert order == ["call"]
    first.join(10)
    assert order == ["call", "capture"]
    with captures.shared():
        first = thread(capture)
        while not captures._waiting:
            pass
        second = thread(call)
    for each in (first, second):
        each.join(10)
    assert order == ["call", "capture", "capture", "call"]


def test_calls_of_the_capturing_thread_are_part_of_the_capture(captures):
    with captures.alone():
        with captures.shared():
            pass
        freed = []
        captures.free(lambda: freed.append(1))
        assert not freed, "a call within the capture ended it"
    assert freed == [1]


def test_what_is_freed_during_a_capture_is_freed_after_it(captures):
    freed = []
    with captures.alone():
        captures.free(lambda: freed.append("same thread"))
        thread(lambda: captures.free(lambda: freed.append("other thread"))).join(10)
        assert freed == []
    assert freed == ["same thread", "other thread"]


def test_what_is_freed_during_a_call_is_freed_at_once(captures):
    freed = []
    with captures.shared():
        captures.free(lambda: freed.append(1))
        assert freed == [1]
    captures.free(lambda: freed.append(2))
    assert freed == [1, 2]


def test_a_finalizer_within_the_lock_itself_does_not_wait(captures):
    freed = []
    with captures._changed:  # as where the garbage collector runs just then
        captures.free(lambda: freed.append(1))
        assert freed == []
    with captures.shared():
        pass
    assert freed == [1]


def test_what_fails_within_leaves_the_lock_free(captures):
    for enter in (captures.shared, captures.alone):
        with pytest.raises(ZeroDivisionError), enter():
            1 / 0  # noqa: B018
    with captures.alone():
        pass


def test_an_interrupted_wait_takes_nothing(captures):
    inside, leave = threading.Event(), threading.Event()

    def capture():
        with captures.alone():
            inside.set()
            while not captures._changed._waiters:
                pass
            os.kill(os.getpid(), signal.SIGINT)
            leave.wait()

    other = thread(capture)
    inside.wait()
    with pytest.raises(KeyboardInterrupt), captures.shared():
        pytest.fail("a call during a capture")
    leave.set()
    other.join(10)
    with captures.alone():
        pass


def test_a_forked_process_does_not_wait_for_threads_it_lacks():
    from fusioncam.kernels.captures import CAPTURES

    inside, leave = threading.Event(), threading.Event()

    def capture():
        with CAPTURES.alone():
            inside.set()
            leave.wait()

    other = thread(capture)
    inside.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        with CAPTURES.alone():
            os._exit(7)
    leave.set()
    other.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

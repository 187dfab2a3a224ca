"""Captures of CUDA graphs keep clear of every other call of CUDA in the process.

onnxruntime captures in CUDA's global mode (`CUDAGraphManager::CaptureBegin`). Meanwhile a call on any other thread that
allocates, frees, loads code or waits for the device fails with error 900, and may spoil the capture. A session that is
destroyed then even ends the process: the destructor of its graphs throws (onnxruntime pull request 32081).
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident


class Captures:
    """A lock that a capture holds alone and other calls of CUDA share, and a queue of what finalizers give back.

    No thread shares it twice at a time: a capture that waits lets no other call begin, unless it waits for a long one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls = self._long = self._waiting = 0
        self._capturing = 0  # the thread that captures
        self._late: deque[Callable[[], object]] = deque()

    @contextmanager
    def shared(self, long: bool = False) -> Iterator[None]:
        """Return a context manager within which no other thread captures; `long` is a call of seconds or minutes."""
        taken = False
        try:
            with self._changed:
                if self._capturing != get_ident():  # else the call is part of the capture
                    self._changed.wait_for(lambda: not (self._capturing or (self._waiting and not self._long)))
                    self._calls += 1
                    self._long += long
                    taken = True
            yield
        finally:
            if taken:
                self._end_call(long)
                self._free_late()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Return a context manager within which no other call runs."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._capturing or self._calls))
                self._capturing = get_ident()
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._capturing = 0
                self._changed.notify_all()
            self._free_late()

    def free(self, release: Callable[[], object]) -> None:
        """Call `release` at once, or after the capture that runs now. For finalizers, on any thread: it never waits."""
        self._late.append(release)
        self._free_late()

    def _free_late(self) -> None:
        while self._late and self._begin_call():
            try:
                with suppress(IndexError):  # another thread was faster
                    self._late.popleft()()
            finally:
                self._end_call()

    def _begin_call(self) -> bool:
        """Begin a call without waiting; return False where that cannot be: whoever is in the way frees afterwards."""
        if not self._changed.acquire(blocking=False):
            return False
        try:
            free = not self._capturing
            self._calls += free
            return free
        finally:
            self._changed.release()

    def _end_call(self, long: bool = False) -> None:
        with self._changed:
            self._calls -= 1
            self._long -= long
            if not self._calls:
                self._changed.notify_all()


CAPTURES = Captures()
if hasattr(os, "register_at_fork"):
    # A thread that held the lock is not there in the new process.
    os.register_at_fork(after_in_child=CAPTURES.__init__)  # type: ignore[misc]

"""Changes of the models in all workers together: every worker opens the new bundles before any answers by them."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Protocol

from fusioncam.runtime.service.errors import NotLoadedError
from fusioncam.runtime.service.repository.model_repository import Change

LOST = "a worker was lost while it opened the model; ask again, or look at the memory there is"

Answer = Callable[[str | None], None]
"""Takes the reason why a change was not made, or None where it was."""


class TakesOrders(Protocol):
    """A worker, as far as changes go."""

    def order(self, step: str, change: Change) -> Future[str | None]:
        """Have a worker take a step of a change, `stage`, `commit` or `drop`; the future gets the reason why not."""


class ModelChanges:
    """The changes that the parent makes, one at a time, in a thread of its own.

    Args:
        workers: Returns the workers that live.

    Attributes:
        absent: Names of the models that are unloaded, for workers that start later.
    """

    def __init__(self, workers: Callable[[], Sequence[TakesOrders]]) -> None:
        self._workers, self.absent = workers, frozenset[str]()
        self._asked = queue.SimpleQueue[tuple[Change, Answer]]()
        threading.Thread(target=self._run, name="changes of models", daemon=True).start()

    def ask(self, change: Change, answer: Answer) -> None:
        """Have a change made when its turn comes; `answer` is called in another thread."""
        self._asked.put((change, answer))

    def _run(self) -> None:
        while True:
            change, answer = self._asked.get()
            reason = self._make(change)
            with suppress(OSError):  # who asked is gone
                answer(reason)

    def _make(self, change: Change) -> str | None:
        """Make a change in all workers, or in none; return the reason why it was not made."""
        workers, staged, reason = list(self._workers()), list[TakesOrders](), None
        # The first one alone: others would disturb its measurements, or fail for the same reason.
        for group in (workers[:1], workers[1:]):
            orders = [(worker, worker.order("stage", change)) for worker in group]
            for worker, order in orders:
                failed = order.result()
                reason = reason or failed
                staged += [] if failed else [worker]
            if reason is not None:
                break
        wait([worker.order("drop" if reason else "commit", change) for worker in staged])
        if reason is None:
            names = {change.name}
            self.absent = self.absent - names if change.action == "load" else self.absent | names
        return reason


class Orders:
    """The orders of one worker that are not answered yet. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0
        self._open: dict[int, Future[str | None]] = {}
        self._ended = False

    def __len__(self) -> int:
        """Return the number of orders that are not answered."""
        return len(self._open)

    def enter(self) -> tuple[int, Future[str | None]]:
        """Return the number of a new order, and the future of its answer."""
        with self._lock:
            self._count += 1
            future = self._open[self._count] = Future()
            if self._ended:
                self._open.pop(self._count).set_result(LOST)
            return self._count, future

    def answer(self, number: int, reason: str | None) -> None:
        """Take the answer to an order."""
        with self._lock:
            future = self._open.pop(number, None)
        if future is not None:
            future.set_result(reason)

    def end(self) -> None:
        """Answer all orders, those to come too: the worker is lost."""
        with self._lock:
            self._ended, lost, self._open = True, self._open, {}
        for future in lost.values():
            future.set_result(LOST)


def raise_reason(reason: str | None) -> None:
    """Raise NotLoadedError where a change was not made."""
    if reason is not None:
        raise NotLoadedError(reason)

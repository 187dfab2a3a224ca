"""An explanation as work that asks for masked passes, so that several pictures can share the runs of a session."""

import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fusioncam.kernels.arrays import Float32Array

Fill = Callable[[int, int, Any], None]
Progress = Callable[[int, int], None]
Found = TypeVar("Found")


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.resume()

    def resume(self) -> None:
        """What was done since the last lap was for others."""
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under `stage`."""
        last = self._last
        self.resume()
        self.book(stage, self._last - last)

    def book(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.laps[stage] = self.laps.get(stage, 0.0) + seconds


@dataclass
class Request:
    """Pictures that an explanation wants passed through the model before it goes on.

    Attributes:
        count: How many.
        fill: `fill(start, stop, out)` writes the pictures start..stop-1 into `out`, an array (stop - start, 3, H, W)
            or, where the graph makes the masked pictures, `Deferred`.
        take: `take(start, logits)` gets the logits (B, classes) of the pictures from `start` on.
        clock: The explanation's.
        done: How many are done.
    """

    count: int
    fill: Fill
    take: Callable[[int, Float32Array], None]
    clock: Clock
    done: int = 0


Work = Generator[Request, None, Found]  # what is found by asking for passes


def at_once(found: Found) -> Work[Found]:
    """What was found without asking."""
    yield from ()
    return found


def finished(work: Work[Found]) -> Found:
    """What a work finds that asks for nothing."""
    return UnderWay(work).result()


class UnderWay(Generic[Found]):
    """A work that was begun. What goes wrong in it is kept, not raised: others may share the run it happened in.

    Attributes:
        request: What it waits for; None once it has ended.
        found: What it was for, once it has found it.
        error: What ended it instead.
    """

    def __init__(self, work: Work[Found]) -> None:
        self._work = work
        self.request: Request | None = None
        self.found: list[Found] = []
        self.error: Exception | None = None
        self._go_on(partial(next, work))

    @property
    def ended(self) -> bool:
        """Whether there is a result, or an error."""
        return self.request is None

    @property
    def wanted(self) -> int:
        """Pictures that it waits for."""
        return 0 if self.request is None else self.request.count - self.request.done

    def fill(self, out: Sized) -> bool:
        """Write the next of these pictures into `out`; says whether that went well."""
        request = self.request
        assert request is not None
        return self._survives(lambda: request.fill(request.done, request.done + len(out), out))

    def take(self, logits: Float32Array, seconds: float) -> None:
        """Hand over their logits (B, classes), and what they took."""
        request = self.request
        assert request is not None
        request.clock.book("masked_passes", seconds)
        if not self._survives(lambda: request.take(request.done, logits)):
            return
        request.done += len(logits)
        if request.done == request.count:
            request.clock.resume()
            self._go_on(partial(next, self._work))

    def fail(self, error: Exception) -> None:
        """Raise an error where it waits, in place of what it asked for."""
        self._go_on(partial(self._work.throw, error))

    def result(self) -> Found:
        """What it found; raises what ended it instead. To be called once."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it and its traceback would keep each other, and all that the work had in its hands
        (found,) = self.found
        return found

    def close(self) -> None:
        """Give up."""
        self._work.close()

    def _survives(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:
            self.fail(error)
            return False
        return True

    def _go_on(self, step: Callable[[], Request]) -> None:
        self.request = None
        try:
            self.request = step()
        except StopIteration as done:
            self.found = [done.value]
        except Exception as error:
            self.error = error
        finally:
            del step  # see `result`


class Together(Generic[Found]):
    """Works under way together, the oldest first; for one thread.

    Args:
        run: Runs the session once, for as many of the pictures that works wait for as it takes; returns how many.
        chunk: How many it takes.
        most: Works that may be under way: bounds the memory.

    Attributes:
        begun: The works.
    """

    def __init__(self, run: Callable[[Collection[UnderWay[Any]]], int], chunk: int, most: int) -> None:
        self._run, self._chunk, self._most = run, chunk, most
        self.begun: deque[UnderWay[Found]] = deque()

    @property
    def room(self) -> bool:
        """Whether another work may be begun."""
        return len(self.begun) < self._most

    @property
    def hungry(self) -> bool:
        """Whether another work may be begun, and is needed to fill a run."""
        return self.room and sum(w.wanted for w in self.begun) < self._chunk

    def begin(self, work: Work[Found]) -> UnderWay[Found]:
        """Have a work go until it asks for pictures."""
        under_way = UnderWay(work)
        self.begun.append(under_way)
        return under_way

    def run(self) -> int:
        """One run of the session; returns its number of pictures.

        Raises:
            FusionCamError: The model cannot be run.
        """
        return self._run(self.begun)

    def close(self) -> None:
        """Give up what is under way."""
        while self.begun:
            self.begun.popleft().close()

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do works, beginning each when it is needed.

        Yields:
            What each work finds, in their order.

        Raises:
            Exception: What ended a work, as soon as it did. Those under way are given up.
            FusionCamError: The model cannot be run.
        """
        more = iter(works)
        with closing(self):
            while True:
                first = next((w for w in self.begun if w.error), self.begun[0] if self.begun else None)
                if first is not None and first.ended:
                    self.begun.remove(first)
                    yield first.result()
                elif self.hungry and (work := next(more, None)) is not None:
                    self.begin(work)
                elif self.begun:
                    self.run()
                else:
                    return

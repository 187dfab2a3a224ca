"""An explanation as work that asks for masked passes, so that several pictures can share the runs of a session."""

import time
from collections.abc import Callable, Generator, Sized
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
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
    take: Callable[[int, Floats], None]
    clock: Clock
    done: int = 0


Work = Generator[Request, None, Found]  # what is found by asking for passes


def at_once(found: Found) -> Work[Found]:
    """What was found without asking."""
    yield from ()
    return found


def finished(work: Work[Found]) -> Found:
    """What a work finds that asks for nothing."""
    (found,) = UnderWay(work).found
    return found


class UnderWay(Generic[Found]):
    """A work that was begun.

    Attributes:
        request: What it waits for; None once it has `found` what it was for.
    """

    def __init__(self, work: Work[Found]) -> None:
        self._work = work
        self.request: Request | None = None
        self.found: list[Found] = []
        self._go_on()

    @property
    def wanted(self) -> int:
        """Pictures that it waits for."""
        return 0 if self.request is None else self.request.count - self.request.done

    def fill(self, out: Sized) -> None:
        """Write the next of these pictures into `out`."""
        assert self.request is not None
        self.request.fill(self.request.done, self.request.done + len(out), out)

    def take(self, logits: Floats, seconds: float) -> None:
        """Hand over their logits (B, classes), and what they took."""
        request = self.request
        assert request is not None
        request.clock.book("masked_passes", seconds)
        request.take(request.done, logits)
        request.done += len(logits)
        if request.done == request.count:
            request.clock.resume()
            self._go_on()

    def close(self) -> None:
        """Give up."""
        self._work.close()

    def _go_on(self) -> None:
        try:
            self.request = next(self._work)
        except StopIteration as done:
            self.request, self.found = None, [done.value]

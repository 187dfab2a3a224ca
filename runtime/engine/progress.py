"""Progress of a request: seconds per stage, and masked passes done."""

import time
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, all) masked passes."""


class Clock:
    """Seconds per stage of one request, and since it was made.

    Args:
        now: Tells the time in seconds.
        waited: Seconds that the request waited before this clock was made; they count for its deadline.

    Attributes:
        laps: Seconds by stage.
        spare: Seconds of masked passes that a shorter deadline would have left out.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, waited: float = 0.0) -> None:
        self.laps: dict[str, float] = {}
        self.now, self.waited, self.spare = now, waited, 0.0
        self.begun = now() - waited
        self.resume()

    @property
    def elapsed(self) -> float:
        """Return the seconds since the request was made."""
        return self.now() - self.begun

    def resume(self) -> None:
        """Start the lap anew: the time since the last one was spent on other requests."""
        self._last = self.now()

    def lap(self, stage: str) -> None:
        """Add the seconds since the last lap to `stage`."""
        last = self._last
        self.resume()
        self.add(stage, self._last - last)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.laps[stage] = self.laps.get(stage, 0.0) + seconds


def part_of(progress: Progress | None, view: int, views: int, later: int = 0) -> Progress | None:
    """Return the progress callback of one view of several, which are taken to cost alike, before `later` passes."""
    if progress is None or (views == 1 and not later):
        return progress
    report = progress
    return lambda done, total: report(view * total + done, views * total + later)


def after(progress: Progress | None, passes: int) -> Progress | None:
    """Return the progress callback of what follows so many passes."""
    if progress is None:
        return None
    report = progress
    return lambda done, total: report(passes + done, passes + total)

"""The pace of an engine: what its work has cost lately, by which a deadline knows what still fits."""

import math
import threading
from collections.abc import Hashable
from typing import NamedTuple

from fusioncam.errors import DeadlineTooShortError
from fusioncam.runtime.budget import Deadline
from fusioncam.runtime.engine.request import ExplainRequest, prepared
from fusioncam.runtime.engine.run_sizes import RunSizes

FORGETTING = 0.2  # weight of the latest measurement
CAUTION = 2.0  # deviations by which what must still come may take longer than its mean
EXPLAIN = "explain"  # the stage of one explain pass
HALVES = 2  # a batch takes a half of the time that is left: a machine twice as slow meanwhile is still in time


class Cost(NamedTuple):
    """Seconds of some work: a mean in which earlier measurements fade, and the mean deviation from it."""

    mean: float
    deviation: float = 0.0

    def after(self, seconds: float) -> "Cost":
        """Return the cost once the work was measured again."""
        away = seconds - self.mean
        return Cost(self.mean + FORGETTING * away, self.deviation + FORGETTING * (abs(away) - self.deviation))

    @property
    def high(self) -> float:
        """Return the seconds that the work hardly ever takes longer than."""
        return self.mean + CAUTION * self.deviation


class Pace:
    """The latest costs of the work of one engine: runs of the model by their pictures, and whole stages by their name.

    The seconds of a run are fitted by a + b n, n its pictures, with weights that fade. Safe to share between threads.

    Args:
        chunk: Pictures per run, at most.
        padded, small: See `RunSizes`.
    """

    def __init__(self, chunk: int, padded: bool, small: int = 0) -> None:
        self.chunk, self._padded, self._sizes = chunk, padded, RunSizes(chunk, padded, small)
        self._lock, self._stages, self._least = threading.Lock(), dict[Hashable, Cost](), dict[Hashable, float]()
        self._sums = [0.0] * 5  # of the weights, n, n^2, seconds and n * seconds, per run
        self._run, self._picture = 0.0, 0.0  # a and b

    def ran(self, pictures: int, seconds: float) -> None:
        """Take the seconds of `pictures` passes, run in chunks, into account."""
        sizes = self._sizes.of(pictures)
        n, t = sum(sizes) / len(sizes), seconds / len(sizes)
        weight = 1 / n  # so that small runs count, too
        with self._lock:
            new = (weight, weight * n, weight * n * n, weight * t, weight * n * t)
            self._sums = [(1 - FORGETTING) * old + add for old, add in zip(self._sums, new, strict=True)]
            w, x, xx, y, xy = self._sums
            spread = w * xx - x * x
            slope = (w * xy - x * y) / spread if spread > 1e-3 * w * xx else y / x
            self._picture = min(max(slope, 0.0), y / x)  # neither a run nor a picture has a cost below 0
            self._run = max((y - self._picture * x) / w, 0.0)

    def took(self, stage: Hashable, seconds: float) -> None:
        """Take the seconds of a stage into account."""
        with self._lock:
            known = self._stages.get(stage)
            self._stages[stage] = Cost(seconds) if known is None else known.after(seconds)

    def least(self, stage: Hashable, seconds: float) -> float:
        """Return the least seconds that a stage ever took, these included."""
        with self._lock:
            least = self._least[stage] = min(self._least.get(stage, math.inf), seconds)
            return least

    def cost(self, stage: Hashable) -> Cost | None:
        """Return the cost of a stage; None where it was never measured."""
        return self._stages.get(stage)

    def seconds(self, pictures: int) -> float:
        """Return the seconds that so many passes take; 0 where none was ever measured."""
        sizes = self._sizes.of(pictures)
        return len(sizes) * self._run + sum(sizes) * self._picture

    def fitting(self, seconds: float) -> int:
        """Return the number of passes that fit into some seconds; 0 where none was ever measured."""
        of_chunk = self.seconds(self.chunk)
        if of_chunk <= 0 or seconds <= 0:
            return 0
        chunks, rest = divmod(seconds, of_chunk)
        beside = 0 if self._padded or not self._picture else max(int((rest - self._run) / self._picture), 0)
        return int(chunks) * self.chunk + min(beside, self.chunk)


class Timer:
    """The time of one view of a picture: measures its work for the pace, and tells what fits before the deadline.

    Args:
        pace: The engine's.
        request: The request for the view.
        grain: Pictures that are best passed together.
    """

    def __init__(self, pace: Pace, request: ExplainRequest, grain: int) -> None:
        self._pace, self._clock, self._grain = pace, request.clock, grain
        self._until = end_of(request)
        self._rest = "after the channels", tuple(request.methods), len(prepared(request)[1])
        self._passes_after, self._scoring, self._batches = 0, False, 0
        self._last = self._end = request.clock.now()  # the end of the last batch, and of the time for channels
        self._guess = 0.0  # seconds from one batch to the next

    def begin(self, passes_after: int, parts: int) -> None:
        """Begin to score channels: one of so many parts that share the time, before so many other passes."""
        self._scoring, self._batches, self._passes_after = True, 0, passes_after
        known = self._pace.cost("guess")
        self._guess = known.high if known else 0.0
        now = self._clock.now()
        self._end = now + (self._until - self._seconds_after() - now) / parts

    def ran(self, pictures: int, begun: float) -> None:
        """Note that a batch of passes has run since `begun`."""
        now = self._clock.now()
        self._pace.ran(pictures, now - begun)
        if not self._scoring:
            return
        self._batches += 1
        if self._batches == 1:
            self._clock.spare += (now - begun) * max(1 - self._grain / pictures, 0)
        else:
            self._guess = begun - self._last
            self._pace.took("guess", self._guess)
            self._clock.spare += now - self._last
        self._last = now

    def scored(self) -> None:
        """Note that the channels are scored."""
        self._scoring, self._last = False, self._clock.now()

    def end(self) -> None:
        """Note that the maps are made."""
        self._pace.took(self._rest, self._clock.now() - self._last)

    def fits(self, riding: int) -> int:
        """Return the number of channels that can be scored in time, with `riding` other pictures in their runs."""
        left = self._end - self._clock.now() - self._guess
        least = 0 if self._batches else max(self._grain - riding, 1)
        return max(self._pace.fitting(left) - riding, least)

    def step(self, riding: int) -> int:
        """Return the number of channels to score before the next look at the clock."""
        fits = self.fits(riding)
        if not self._batches:
            return fits  # the first guess needs them all; a plan asks for few at first
        return min(fits, max((fits + riding) // HALVES - riding, self._grain - riding, 1))

    def _seconds_after(self) -> float:
        known = self._pace.cost(self._rest)
        return known.high if known else self._passes_after * self._pace.seconds(1)


def end_of(request: ExplainRequest) -> float:
    """Return the time by the request's clock when its maps are due."""
    if request.until is not None:
        return request.until
    return request.clock.begun + request.budget.seconds if isinstance(request.budget, Deadline) else math.inf


def in_time(pace: Pace, request: ExplainRequest, work: Hashable) -> bool:
    """Return False where the maps of a request, made by now, missed its deadline by more than a run of the model.

    Args:
        pace: The engine's.
        request: The request.
        work: Names explanations of its kind.

    Raises:
        DeadlineTooShortError: The deadline is shorter than any explanation of this kind ever took.
    """
    clock, budget = request.clock, request.budget
    if not isinstance(budget, Deadline):
        return True
    least = pace.least(work, clock.elapsed - clock.waited - clock.spare)
    if budget.seconds < least:
        asked = ", ".join(request.methods) + (" with a verdict" if request.verify else "")
        raise DeadlineTooShortError(
            f"a deadline of {budget} is too short for this model on this machine: an explanation by "
            f"{asked} takes at least {math.ceil(1e3 * least)} ms; give more time, or take the method grad_cam alone"
        )
    return clock.elapsed <= budget.seconds + pace.seconds(pace.chunk)

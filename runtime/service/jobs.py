"""What the service's HTTP side and its engine room agree on: a job, and whoever watches how jobs fare."""

from dataclasses import dataclass
from typing import Protocol

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.explanation import Explanation


@dataclass(frozen=True, eq=False)
class Job:
    """One picture to explain, for one request.

    Attributes:
        image: A decoded (H0, W0, 3) uint8 RGB photo, or a preprocessed (3, H, W) float32 array.
        class_index: The class; -1 for the top one.
        methods: Which maps to make; names that `checked_methods` has let through.
        budget: Masked passes to spend, as `checked_budget` gives it.
        deadline: When its time is over, in seconds of `time.monotonic()`.
    """

    image: Array
    class_index: int
    methods: tuple[str, ...]
    budget: Budget
    deadline: float


class Watch(Protocol):
    """Is told how jobs fare, from whichever thread it happens in: counters must be safe to share."""

    def queued(self, model: str, waiting: int) -> None:
        """So many jobs of a model wait now."""

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """A run of the session is done: so many masked pictures, of the `size` that a chunk holds, took `seconds`."""

    def finished(self, model: str, explanation: Explanation) -> None:
        """A job ended well; its explanation tells seconds per stage, passes and flags."""

    def fallback(self, model: str, reason: str) -> None:
        """Something was done in a slower way than asked for; `reason` is one word or two, such as `one by one`."""


class Unwatched:
    """A `Watch` that looks away."""

    def queued(self, model: str, waiting: int) -> None:
        """Nothing."""

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """Nothing."""

    def finished(self, model: str, explanation: Explanation) -> None:
        """Nothing."""

    def fallback(self, model: str, reason: str) -> None:
        """Nothing."""

"""A job of the service: one picture to explain, for one request."""

from dataclasses import dataclass

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.budget import Budget


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

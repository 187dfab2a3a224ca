"""Observers of jobs: told how the jobs of a batcher fare."""

from typing import Protocol

from fusioncam.runtime.explanation import Explanation


class Observer(Protocol):
    """Is told how jobs fare, from whichever thread it happens in: counters must be safe to share."""

    def queued(self, model: str, waiting: int) -> None:
        """So many jobs of a model wait now."""

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """A run of the session is done: so many masked pictures, of the `size` that a chunk holds, took `seconds`."""

    def finished(self, model: str, explanation: Explanation) -> None:
        """A job ended well; its explanation tells seconds per stage, passes and flags."""

    def fallback(self, model: str, reason: str) -> None:
        """Something was done in a slower way than asked for; `reason` is one word or two, such as `one by one`."""


class NullObserver:
    """An `Observer` that looks away."""

    def queued(self, model: str, waiting: int) -> None:
        """Nothing."""

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """Nothing."""

    def finished(self, model: str, explanation: Explanation) -> None:
        """Nothing."""

    def fallback(self, model: str, reason: str) -> None:
        """Nothing."""

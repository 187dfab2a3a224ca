"""Observers of jobs, told by a batcher how its jobs fare."""

from fusioncam.runtime.explanation import Explanation


class Observer:
    """An observer that ignores everything; to be derived from.

    Its methods are called from any thread: counters must be safe to share.
    """

    def queued(self, model: str, more: int) -> None:
        """Note that so many jobs of a model wait more than before; a negative number: fewer."""

    def chunk(self, model: str, pictures: int, size: int, seconds: float) -> None:
        """Note a run of the session: the masked pictures in it, the `size` of a chunk, and the time it took."""

    def finished(self, model: str, explanation: Explanation) -> None:
        """Note a successful job; its explanation holds seconds per stage, passes and flags."""

    def not_explained(self, model: str, explanation: Explanation, reason: str) -> None:
        """Note a successful job without maps: its condition does not hold, or nothing is detected; few reasons."""

    def fallback(self, model: str, reason: str) -> None:
        """Note that a job was done in a slower way than asked for; the reason is one word or two."""

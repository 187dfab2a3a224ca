"""A job that a batcher has let in: how far it is, what ends it, who waits for it."""

import time
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress

from fusioncam.errors import DeadlineError, FusionCamError
from fusioncam.runtime.engine.scheduler import RunningTask
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.batching.job import Job

Found = list[Explanation]


class PendingJob:
    """A job that was let in, and the answer to come.

    Attributes:
        future: The answer. Whoever waits for it may cancel it.
        done: Masked passes run, and how many there will be.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.future: Future[Explanation] = Future()
        self.done = 0, 0

    def progress(self, done: int, every: int) -> None:
        """Take note of passes that were run."""
        self.done = done, every
        self.check()

    def check(self) -> None:
        """Raise what ends the job, if it is over: nobody waits any more, or its time is up."""
        if self.future.cancelled():
            raise CancelledError
        if time.monotonic() >= self.job.deadline:
            raise self.late()

    def late(self) -> DeadlineError:
        """What to say when its time is up."""
        done, every = self.done
        reached = f"after {done} of {every} masked passes" if every else "before its turn came"
        given = self.job.deadline - self.since
        missed = f"no explanation within {given:.3g} s" if given > 0 else "no time was left for an explanation"
        return DeadlineError(
            f"{missed}: it was stopped {reached}; ask for a smaller budget or for more time, or ask again when there "
            "is less to do"
        )

    def fail(self, error: Exception) -> None:
        """Hand over what ended it, before it was under way or in spite of that."""
        with suppress(InvalidStateError):  # cancelled or answered meanwhile
            self.future.set_exception(error)

    def answer(self, under_way: RunningTask[Found]) -> Explanation | None:
        """Hand over what was found, or what went wrong. Returns what was found, if somebody still waited for it."""
        with suppress(InvalidStateError):  # cancelled meanwhile
            try:
                (explanation,) = under_way.result()
            except (FusionCamError, CancelledError) as error:
                self.future.set_exception(error.with_traceback(None))  # which would keep all that the work had in hand
            except Exception as error:
                self.future.set_exception(error)
            else:
                self.future.set_result(explanation)
                return explanation
        return None

"""A job: one picture to explain for one request, and its state in a batcher."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from fusioncam.errors import DeadlineError, FusionCamError
from fusioncam.free_size import Size
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine import Asked, Clock, ExplainRequest, Levels, RunningTask, TargetChoice
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.prepared import PreparedPicture
from fusioncam.runtime.service.explain_if import Condition


@dataclass(frozen=True, eq=False)
class Job:
    """One picture to explain, for one request.

    Attributes:
        image: A decoded (H0, W0, 3) uint8 RGB photo, or a preprocessed (C, H, W) float32 array.
        targets: The targets, which share masked passes; or a function that chooses among those of the picture.
        methods: Names of the maps to make.
        budget: Masked passes to spend.
        deadline: End of its time, in seconds of `time.monotonic()`.
        verify: Whether a verdict on the map is wanted.
        arrived: When the request came, in the same seconds; the time of a budget like `80ms` begins then.
        condition: Decides by the prediction if maps are made; None makes them always.
        progress_maps: Called in the thread of the batcher with preliminary explanations, one per target.
        photo: The photo behind a preprocessed array: for the explanation, and for targets in its pixels.
        size: (H, W) of the picture, where that is not the model's own size.
        inputs: Further inputs of the model.
        levels: Which levels of a detector explain it, see `Explainer.explain`.
        or_nothing: Whether a picture that lacks the target is answered, too, see `ExplainRequest`.
    """

    image: Array
    targets: Sequence[Asked] | TargetChoice
    methods: tuple[str, ...]
    budget: Budget
    deadline: float
    verify: bool = False
    arrived: float = field(default_factory=time.monotonic)
    condition: Condition | None = None
    progress_maps: Callable[[Sequence[Explanation]], None] | None = None
    photo: PreparedPicture | None = None
    size: Size | None = None
    inputs: InputValues | None = None
    levels: Levels = "own"
    or_nothing: bool = False


class PendingJob:
    """A job that a batcher has admitted, and the answer to come.

    Attributes:
        future: The answer. Whoever waits for it may cancel it.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.future: Future[list[Explanation]] = Future()
        self._progress = 0, 0

    async def wait(self) -> list[Explanation]:
        """Wait for the explanation of each target. Cancelling this stops the job.

        Raises:
            DeadlineError: The time is up. The work is stopped before the next chunk.
            ImageError: The picture is of another shape, type or content than the model's.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        try:
            async with asyncio.timeout(self.job.deadline - time.monotonic()):
                return await asyncio.wrap_future(self.future)
        except TimeoutError:
            raise self.late() from None

    def request(self) -> ExplainRequest:
        """Return the request to the engine."""
        job, clock = self.job, Clock(waited=time.monotonic() - self.job.arrived)
        return ExplainRequest(
            job.photo or job.image, job.targets, job.methods, job.budget, clock, self.progress, job.verify,
            progress_maps=job.progress_maps, inputs=job.inputs, levels=job.levels,
            or_nothing=job.or_nothing,
            condition=None if job.condition is None else job.condition.holds,
        )  # fmt: skip

    def progress(self, done: int, passes: int) -> None:
        """Note the masked passes that were run, of all to run."""
        self._progress = done, passes
        self.check()

    def check(self) -> None:
        """Raise the error that ends the job, if nobody waits any more or the time is up."""
        if self.future.cancelled():
            raise CancelledError
        if time.monotonic() >= self.job.deadline:
            raise self.late()

    def late(self) -> DeadlineError:
        """Return the error of a job whose time is up."""
        done, passes = self._progress
        reached = f"after {done} of {passes} masked passes" if passes else "before its turn came"
        seconds = self.job.deadline - self.since
        missed = f"no explanation within {seconds:.3g} s" if seconds > 0 else "no time was left for an explanation"
        return DeadlineError(
            f"{missed}: it was stopped {reached}; ask for a smaller budget or for more time, or ask again when there "
            "is less to do"
        )

    def fail(self, error: Exception) -> None:
        """Answer with an error."""
        with suppress(InvalidStateError):  # cancelled or answered meanwhile
            self.future.set_exception(error)

    def answer(self, task: RunningTask[list[Explanation]]) -> list[Explanation] | None:
        """Answer with the result of its task; return the explanations if somebody still waited for it."""
        with suppress(InvalidStateError):  # cancelled meanwhile
            try:
                explanations = task.result()
            except (FusionCamError, CancelledError) as error:
                self.future.set_exception(error.with_traceback(None))  # which would keep the arrays of the task
            except Exception as error:
                self.future.set_exception(error)
            else:
                self.future.set_result(explanations)
                return explanations
        return None

"""Tasks that ask for passes through the model, and the scheduler that lets several of them share a run."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.targets.readout import LOGITS, Readout

Result = TypeVar("Result")

IN_FLIGHT = 4  # tasks that run together, unless told otherwise: bounds the memory


@dataclass
class PassRequest:
    """Pictures that a task wants passed through the model before the task goes on.

    Attributes:
        count: Number of pictures.
        fill: `fill(start, stop, out)` writes the pictures start..stop-1 into `out`, an array (stop - start, C, H, W)
            or, where the graph makes the masked pictures, `Deferred`.
        take: `take(start, answers)` gets the answers (B, width) to the pictures from `start` on, see `Readout`.
        clock: Gets the seconds of the passes.
        exact: Whether the passes go through the explain graph, since those of an int8 score graph are too coarse.
        readout: That of the targets; its tensors go to the session.
        inputs: Further inputs of the picture, which the session gets with each pass of it.
        done: Pictures passed so far.
    """

    count: int
    fill: Callable[[int, int, Any], None]
    take: Callable[[int, Float32Array], None]
    clock: Clock
    exact: bool = False
    readout: Readout = LOGITS
    inputs: PictureInputs = NO_INPUTS
    done: int = 0


Task = Generator[PassRequest, None, Result]
"""Work on one picture: yields what must pass through the model, and returns its result."""


def at_once(result: Result) -> Task[Result]:
    """Return a result that needs no pass, as a task."""
    yield from ()
    return result


class RunningTask(Generic[Result]):
    """A task that has started. Its error is kept, not raised: other tasks may share the run in which it came up.

    Attributes:
        pass_request: The passes that the task waits for; None once the task has ended.
        error: The exception that ended the task, if one did.
    """

    def __init__(self, task: Task[Result]) -> None:
        self._task = task
        self.pass_request: PassRequest | None = None
        self.error: Exception | None = None
        self._result: list[Result] = []
        self._advance(partial(next, task))

    @property
    def ended(self) -> bool:
        """Return True once there is a result, or an error."""
        return self.pass_request is None

    @property
    def passes_wanted(self) -> int:
        """Return the number of pictures that the task waits for."""
        return 0 if self.pass_request is None else self.pass_request.count - self.pass_request.done

    @property
    def asked_for(self) -> tuple[Readout, PictureInputs]:
        """Return the readout and the further inputs of a task that waits for passes."""
        assert self.pass_request is not None
        return self.pass_request.readout, self.pass_request.inputs

    def fill(self, out: Sized) -> bool:
        """Write the next pictures into `out`; return False where that ended the task."""
        request = self.pass_request
        assert request is not None
        return self._survives(lambda: request.fill(request.done, request.done + len(out), out))

    def take(self, answers: Float32Array, seconds: float) -> None:
        """Hand over the answers (B, width) to the pictures filled in, and the seconds that their passes took."""
        request = self.pass_request
        assert request is not None
        request.clock.add("masked_passes", seconds)
        if not self._survives(lambda: request.take(request.done, answers)):
            return
        request.done += len(answers)
        if request.done == request.count:
            request.clock.resume()
            self._advance(partial(next, self._task))

    def fail(self, error: Exception) -> None:
        """Raise an error in the task, where it waits for its passes."""
        self._advance(partial(self._task.throw, error))

    def result(self) -> Result:
        """Return the result, or raise the error that ended the task; to be called once."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or the error and its traceback keep each other alive, and with them the task's arrays
        (result,) = self._result
        return result

    def close(self) -> None:
        """Give the task up."""
        self._task.close()

    def _survives(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:
            self.fail(error)
            return False
        return True

    def _advance(self, step: Callable[[], PassRequest]) -> None:
        self.pass_request = None
        try:
            self.pass_request = step()
        except StopIteration as end:
            self._result = [end.value]
        except Exception as error:
            self.error = error
        finally:
            del step  # see `result`


class Scheduler(Generic[Result]):
    """Runs several tasks together, the oldest first; for one thread.

    Args:
        run_chunk: Runs the session once, with as many of the tasks' pictures as fit; returns their number.
        chunk: Pictures per run.
        most: Tasks that may run together: bounds the memory.

    Attributes:
        tasks: The running tasks.
    """

    def __init__(self, run_chunk: Callable[[Collection[RunningTask[Any]]], int], chunk: int, most: int) -> None:
        self._run_chunk, self._chunk, self._most = run_chunk, chunk, most
        self.tasks: deque[RunningTask[Result]] = deque()

    @property
    def wants_more(self) -> bool:
        """Return True where another task may start, and is needed to fill a run."""
        return len(self.tasks) < self._most and sum(task.passes_wanted for task in self.tasks) < self._chunk

    def start(self, task: Task[Result]) -> RunningTask[Result]:
        """Let a task run until it asks for passes."""
        running = RunningTask(task)
        self.tasks.append(running)
        return running

    def run_once(self) -> int:
        """Run the session once; return the number of pictures passed.

        Raises:
            FusionCamError: The model cannot be run.
        """
        return self._run_chunk(self.tasks)

    def close(self) -> None:
        """Give up all running tasks."""
        while self.tasks:
            self.tasks.popleft().close()

    def run(self, tasks: Iterable[Task[Result]]) -> Iterator[Result]:
        """Run tasks to their end, and start each when it is needed. Runs are filled across tasks.

        Yields:
            The result of each task, in their order.

        Raises:
            Exception: The error of a task, as soon as it comes up. The other running tasks are given up.
            FusionCamError: The model cannot be run.
        """
        waiting = iter(tasks)
        with closing(self):
            while True:
                oldest = next((t for t in self.tasks if t.error), self.tasks[0] if self.tasks else None)
                if oldest is not None and oldest.ended:
                    self.tasks.remove(oldest)
                    yield oldest.result()
                elif self.wants_more and (task := next(waiting, None)) is not None:
                    self.start(task)
                elif self.tasks:
                    self.run_once()
                else:
                    return

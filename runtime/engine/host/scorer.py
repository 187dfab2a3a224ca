"""Forward passes of many pictures, in chunks: memory is bounded by the chunk, never by the number of pictures."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import NotFiniteError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.masks import Deferred
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.chunks import Chunk, MaskChunk, PictureChunk
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, RunningTask, Scheduler
from fusioncam.runtime.sessions.run import run

GRAIN = 8  # pictures between two guesses, where short chunks cost nothing; a measured chunk would change the map


class Scorer:
    """Runs the score graph on pictures that are made chunk by chunk.

    Safe to share between threads: every call has buffers of its own.

    Args:
        session: The score graph: `image` (N, C, H, W) to `logits` (N, classes).
        shape: (C, H, W).
        chunk: Pictures per run.
        pad: Whether a last, smaller chunk is filled up, so that the session sees one shape only. A new shape is
            costly on a GPU, while on the CPU the filling is.
        dtype: Type of the session's `image`, float32 or float16.
        grid: (h, w) of the masks, where the session's graph is that of `masked_graph`; by default it takes pictures.
        explain: Session of the explain graph, for requests of exact passes, see `PassRequest`.
        singly: Whether the explain graph takes one picture per run.

    Attributes:
        session: See above.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, ...],
        chunk: int,
        pad: bool,
        dtype: npt.DTypeLike = np.float32,
        grid: tuple[int, int] | None = None,
        explain: onnxruntime.InferenceSession | None = None,
        singly: bool = False,
    ) -> None:
        self.session, self._shape, self.chunk, self.pad = session, shape, chunk, pad
        self._explain, self._singly = explain, singly
        self._buffers: Callable[[], Chunk] = partial(MaskChunk, grid) if grid else partial(PictureChunk, shape, dtype)

    @property
    def grain(self) -> int:
        """Return how many pictures are best passed before the next guess, which depends on them."""
        return self.chunk if self.pad else GRAIN

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for so many tasks, which share chunks, with buffers of its own."""
        buffers = {False: self._buffers(), True: PictureChunk(self._shape, np.float32)}
        return Scheduler(partial(self._run_chunk, buffers), self.chunk, most)

    def try_out(self, count: int) -> None:
        """Pass a blank picture `count` times through the session, to be timed."""
        buffers = self._buffers()
        rows = buffers.rows(count)
        if isinstance(rows, Deferred):
            rows.put([np.zeros(self._shape, np.float32)] * count, 1)
        run(self.session, ["logits"], buffers.feeds(rows, count))

    def _run_chunk(self, chunks: Mapping[bool, Chunk], running: Collection[RunningTask[Any]]) -> int:
        """Run a session once, with as many of the tasks' pictures as fit and go through it; see `Scheduler`."""
        start = time.perf_counter()
        exact, tasks = _through_one_session(running)
        buffers = chunks[exact]
        count = min(self.chunk, sum(task.passes_wanted for task in tasks))
        pictures = buffers.rows(self.chunk if self.pad and not exact else count)
        parts, end = [], 0
        for task in tasks:
            if size := min(task.passes_wanted, count - end):
                with np.errstate(over="ignore"):  # what float16 does not hold shows in the logits
                    if not task.fill(pictures[end : end + size]):
                        continue
                parts.append((task, slice(end, end + size)))
                end += size
        if not parts:
            return 0
        logits = self._logits(exact, buffers.feeds(pictures, end))
        seconds = (time.perf_counter() - start) / end
        for task, rows in parts:
            try:
                refuse_nan(logits[rows], "logits")
            except NotFiniteError as error:  # of this task's picture; the others are as they should be
                task.fail(error)
            else:
                task.take(logits[rows], seconds * (rows.stop - rows.start))
        return end

    def _logits(self, exact: bool, feeds: dict[str, Any]) -> Float32Array:
        """Return the logits (N, classes) of either session; the explain graph leaves its gradients out."""
        if not exact:
            return np.asarray(run(self.session, ["logits"], feeds)[0])
        assert self._explain is not None, "an engine of int8 bundles gives it"
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        pictures = feeds["image"]
        parts = np.split(pictures, len(pictures)) if self._singly else [pictures]
        logits = [
            run(self._explain, ["logits"], {"image": p, "class_index": np.full(len(p), -1, np.int64)}, options)[0]
            for p in parts
        ]
        return np.concatenate(logits)


def _through_one_session(running: Iterable[RunningTask[Any]]) -> tuple[bool, list[RunningTask[Any]]]:
    """Return whether the oldest task that waits wants exact passes, and all tasks that want the same."""
    waiting = [(task.pass_request.exact, task) for task in running if task.pass_request is not None]
    exact = bool(waiting) and waiting[0][0]
    return exact, [task for wants, task in waiting if wants == exact]

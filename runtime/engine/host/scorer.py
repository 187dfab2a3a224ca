"""Forward passes of many pictures, in chunks: memory is bounded by the chunk, never by the number of pictures."""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import NotFiniteError
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
        session: The score graph: `image` (N, 3, H, W) to `logits` (N, classes).
        shape: (3, H, W).
        chunk: Pictures per run.
        pad: Whether a last, smaller chunk is filled up, so that the session sees one shape only. A new shape is
            costly on a GPU, while on the CPU the filling is.
        dtype: Type of the session's `image`, float32 or float16.
        grid: (h, w) of the masks, where the session's graph is that of `masked_graph`; by default it takes pictures.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, int, int],
        chunk: int,
        pad: bool,
        dtype: npt.DTypeLike = np.float32,
        grid: tuple[int, int] | None = None,
    ) -> None:
        self._session, self._shape, self.chunk, self.pad = session, shape, chunk, pad
        self._buffers: Callable[[], Chunk] = partial(MaskChunk, grid) if grid else partial(PictureChunk, shape, dtype)

    @property
    def grain(self) -> int:
        """Return how many pictures are best passed before the next guess, which depends on them."""
        return self.chunk if self.pad else GRAIN

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for so many tasks, which share chunks, with buffers of its own."""
        return Scheduler(partial(self._run_chunk, self._buffers()), self.chunk, most)

    def try_out(self, count: int) -> None:
        """Pass a blank picture `count` times through the session, to be timed."""
        buffers = self._buffers()
        rows = buffers.rows(count)
        if isinstance(rows, Deferred):
            rows.put([np.zeros(self._shape, np.float32)] * count, 1)
        run(self._session, ["logits"], buffers.feeds(rows, count))

    def _run_chunk(self, buffers: Chunk, tasks: Collection[RunningTask[Any]]) -> int:
        """Run the session once, with as many of the tasks' pictures as fit; see `Scheduler`."""
        start = time.perf_counter()
        count = min(self.chunk, sum(task.passes_wanted for task in tasks))
        pictures = buffers.rows(self.chunk if self.pad else count)
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
        logits = run(self._session, ["logits"], buffers.feeds(pictures, end))[0]
        seconds = (time.perf_counter() - start) / end
        for task, rows in parts:
            try:
                refuse_nan(logits[rows], "logits")
            except NotFiniteError as error:  # of this task's picture; the others are as they should be
                task.fail(error)
            else:
                task.take(logits[rows], seconds * (rows.stop - rows.start))
        return end

"""Forward passes of many pictures, in chunks: memory is bounded by the chunk, never by their number."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import NotFiniteError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.masks import Deferred
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Ending
from fusioncam.runtime.engine.host.chunks import Chunk, MaskChunk, PictureChunk
from fusioncam.runtime.engine.scheduler import Found, Together, UnderWay, Work
from fusioncam.runtime.sessions.run import run

__all__ = ["Ending", "Scorer", "input_type", "probabilities", "refuse_nan"]

GRAIN = 8  # pictures between two guesses, where short chunks cost nothing; a measured chunk would change the map
IN_FLIGHT = 4  # pictures that are worked on together, at most: bounds the memory


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
        self._session, self._shape, self.chunk, self._pad = session, shape, chunk, pad
        self._buffers: Callable[[], Chunk] = partial(MaskChunk, grid) if grid else partial(PictureChunk, shape, dtype)

    @property
    def grain(self) -> int:
        """Pictures that are best passed together when what comes next depends on them."""
        return self.chunk if self._pad else GRAIN

    def together(self, most: int = IN_FLIGHT) -> Together[Any]:
        """Room for so many works that share chunks, with buffers of its own."""
        return Together(partial(self._run_chunk, self._buffers()), self.chunk, most)

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures. Chunks are filled across them, so that only the very last may be short.

        Yields:
            What each work finds, in their order.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity (NotFiniteError).
        """
        return self.together().finish(works)

    def try_out(self, count: int) -> None:
        """Pass a blank picture `count` times through the session, to see how long that takes."""
        buffers = self._buffers()
        rows = buffers.rows(count)
        if isinstance(rows, Deferred):
            rows.put([np.zeros(self._shape, np.float32)] * count, 1)
        run(self._session, ["logits"], buffers.feeds(rows, count))

    def _run_chunk(self, buffers: Chunk, begun: Collection[UnderWay[Any]]) -> int:
        """One run of the session, with as many of the wanted pictures as it takes; see `Together`."""
        start = time.perf_counter()
        count = min(self.chunk, sum(w.wanted for w in begun))
        pictures = buffers.rows(self.chunk if self._pad else count)
        parts, end = [], 0
        for each in begun:
            if size := min(each.wanted, count - end):
                with np.errstate(over="ignore"):  # what float16 does not hold shows in the logits
                    if not each.fill(pictures[end : end + size]):
                        continue
                parts.append((each, slice(end, end + size)))
                end += size
        if not parts:
            return 0
        logits = run(self._session, ["logits"], buffers.feeds(pictures, end))[0]
        seconds = (time.perf_counter() - start) / end
        for each, rows in parts:
            try:
                refuse_nan(logits[rows], "logits")
            except NotFiniteError as error:  # of this picture; the others are as they should be
                each.fail(error)
            else:
                each.take(logits[rows], seconds * (rows.stop - rows.start))
        return end


def refuse_nan(array: Array, what: str) -> None:
    """Raise NotFiniteError where `array` holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise NotFiniteError(
            f"the model gives NaN or infinite {what} for this picture; check its preprocessing, or use float32 weights"
        )


def input_type(session: onnxruntime.InferenceSession) -> type[np.floating[Any]]:
    """Type of the score graph's pictures."""
    return np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32

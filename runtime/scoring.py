"""Masked forward passes, in chunks: memory is bounded by the chunk, never by the number of masks."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import FusionCamError

Floats = npt.NDArray[np.float32]
Fill = Callable[[int, int, Floats], None]


class Scorer:
    """Runs the score graph on pictures that are made chunk by chunk.

    Safe to share between threads: every call has buffers of its own.

    Args:
        session: The score graph: `image` (N, 3, H, W) to `logits` (N, classes).
        shape: (3, H, W).
        chunk: Pictures per run.
        pad: Whether a last, smaller chunk is filled up, so that the session sees one shape only. A new shape is
            costly on a GPU, while on the CPU the filling is.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, shape: tuple[int, int, int], chunk: int, pad: bool
    ) -> None:
        self._session, self._shape, self.chunk, self._pad = session, shape, chunk, pad

    def run(self, count: int, fill: Fill) -> Iterator[tuple[int, Floats]]:
        """Pass `count` pictures through the model, a chunk at a time.

        Args:
            count: Number of pictures.
            fill: `fill(start, stop, out)` writes the pictures start..stop-1 into `out` (stop - start, 3, H, W).

        Yields:
            The number of the first picture of the chunk, and the chunk's logits (B, classes).

        Raises:
            FusionCamError: The model gives NaN or infinity.
        """
        buffer = np.zeros((self.chunk if self._pad else min(self.chunk, count), *self._shape), np.float32)
        for start in range(0, count, self.chunk):
            size = min(self.chunk, count - start)
            fill(start, start + size, buffer[:size])
            fed = buffer if self._pad else buffer[:size]
            logits = self._session.run(["logits"], {"image": fed})[0][:size]
            refuse_nan(logits, "logits")
            yield start, logits


def refuse_nan(array: npt.NDArray[np.float32], what: str) -> None:
    """Raise FusionCamError where `array` holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise FusionCamError(
            f"the model gives NaN or infinite {what} for this picture; check its preprocessing, or use float32 weights"
        )

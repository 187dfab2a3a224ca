"""Masked forward passes, in chunks: memory is bounded by the chunk, never by the number of masks."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.errors import FusionCamError
from fusioncam.kernels.masks import Indices, MaskMaker, fill_with
from fusioncam.kernels.reference import softmax
from fusioncam.runtime.session import run

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Fill = Callable[[int, int, Floats], None]
Progress = Callable[[int, int], None]
Ending = Literal["logits", "softmax", "sigmoid"]


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under `stage`."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


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
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, int, int],
        chunk: int,
        pad: bool,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._session, self._shape, self.chunk, self._pad, self._dtype = session, shape, chunk, pad, dtype

    def run(self, count: int, fill: Fill) -> Iterator[tuple[int, Floats]]:
        """Pass `count` pictures through the model, a chunk at a time.

        Args:
            count: Number of pictures.
            fill: `fill(start, stop, out)` writes the pictures start..stop-1 into `out` (stop - start, 3, H, W).

        Yields:
            The number of the first picture of the chunk, and the chunk's logits (B, classes).

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        buffer = np.zeros((self.chunk if self._pad else min(self.chunk, count), *self._shape), self._dtype)
        for start in range(0, count, self.chunk):
            size = min(self.chunk, count - start)
            with np.errstate(over="ignore"):  # what float16 does not hold shows in the logits
                fill(start, start + size, buffer[:size])
            logits = run(self._session, ["logits"], {"image": buffer if self._pad else buffer[:size]})[0][:size]
            refuse_nan(logits, "logits")
            yield start, logits


class MaskedPasses:
    """The masked passes of one picture x: every method of the family asks here what the model makes of x * m.

    Args:
        scorer: Runs the passes.
        image: x (3, H, W), preprocessed.
        clock: Gets the laps `masked_passes`, and `fusion` for what happens between them.
        progress: Called with (`done`, `total`) after every chunk.

    Attributes:
        size: (H, W).
        done: Passes run so far.
        total: Passes there will be; set by whoever knows.
    """

    def __init__(self, scorer: Scorer, image: Floats, clock: Clock, progress: Progress | None = None) -> None:
        self.image, self.size = image, (image.shape[1], image.shape[2])
        self.done = self.total = 0
        self._scorer, self._clock, self._progress = scorer, clock, progress

    def of_maps(self, maps: Sequence[Array]) -> Floats:
        """f(x * m) of full-size maps m (H, W): logits (len(maps), classes)."""

        def fill(start: int, stop: int, out: Floats) -> None:
            fill_with(maps[start:stop], self.image, out)

        return np.concatenate([logits for _, logits in self._run(len(maps), fill)])

    def of_channels(
        self, masks: MaskMaker, channels: Indices, classes: Sequence[int], maps: Sequence[Array]
    ) -> tuple[Array, Floats]:
        """f_c(x * M_k) of channels k and classes c; full-size maps ride along in the last chunk.

        Args:
            masks: Makes the masked pictures.
            channels: Which channels k.
            classes: Which classes c. The other logits are dropped at once: K x 1000 of them would be many.
            maps: One (H, W) map or more.

        Returns:
            Logits (len(channels), len(classes)), and the logits (len(maps), all classes) of the maps.
        """
        scores, rows = np.empty((len(channels), len(classes))), []

        def fill(start: int, stop: int, out: Floats) -> None:
            some = channels[start:stop]
            masks.fill(some, out[: len(some)])
            after = max(start - len(channels), 0)
            fill_with(maps[after : after + len(out) - len(some)], self.image, out[len(some) :])

        for start, logits in self._run(len(channels) + len(maps), fill):
            of_channels = scores[start : start + len(logits)]
            of_channels[:] = logits[: len(of_channels), classes]
            rows.append(logits[len(of_channels) :])
        return scores, np.concatenate(rows)

    def _run(self, count: int, fill: Fill) -> Iterator[tuple[int, Floats]]:
        self._clock.lap("fusion")
        for start, logits in self._scorer.run(count, fill):
            self.done += len(logits)
            if self._progress is not None:
                self._progress(self.done, self.total)
            yield start, logits
        self._clock.lap("masked_passes")


def probabilities(logits: Floats, ending: Ending) -> Array:
    """What the model makes of its logits (..., classes): a softmax, unless it ends in a sigmoid."""
    exact = logits.astype(np.float64)
    return np.asarray(np.exp(-np.logaddexp(0, -exact))) if ending == "sigmoid" else softmax(exact)


def refuse_nan(array: Floats, what: str) -> None:
    """Raise FusionCamError where `array` holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise FusionCamError(
            f"the model gives NaN or infinite {what} for this picture; check its preprocessing, or use float32 weights"
        )


def input_type(session: onnxruntime.InferenceSession) -> type[np.floating[Any]]:
    """Type of the score graph's pictures."""
    return np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32

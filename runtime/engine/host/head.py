"""The head of the model, run on activations in which one place after another is kept: for Recipro-CAM."""

import numpy as np
import onnxruntime

from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.sessions.run import run

MASKS = 64  # per run, at most: bounds the memory


def masks_per_run(grid: tuple[int, int]) -> int:
    """Return the number of masks of every run, so that the places of a grid (h, w) are dealt out evenly."""
    places = grid[0] * grid[1]
    return -(-places // -(-places // MASKS))


class Head:
    """Runs the head graph of a bundle.

    Safe to share between threads.

    Args:
        session: The head graph: `image` (1, C, H, W) and `masks` (M, 1, h, w) to `logits` (M, classes).

    Attributes:
        grid: (h, w) of the layer.
        chunk: Masks per run, always the same: the places are dealt out evenly, since every run computes what comes
            before the layer again, and a new number of masks is costly on a GPU.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        masks = next(i for i in session.get_inputs() if i.name == "masks")
        self.grid: tuple[int, int] = (masks.shape[2], masks.shape[3])
        self._places = self.grid[0] * self.grid[1]
        self.chunk = masks_per_run(self.grid)

    def scores(self, x: Float32Array) -> Float32Array:
        """Return the logits by each place alone: Recipro-CAM, arXiv 2209.14074, section 3.2.

        Args:
            x: The picture (C, H, W), preprocessed.

        Returns:
            (h * w, classes) float32, places in rows of the grid: those of the activations where all but one place are
            zero.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        rows = []
        for start in range(0, self._places, self.chunk):
            masks = np.eye(self.chunk, self._places, k=start, dtype=np.float32).reshape(-1, 1, *self.grid)
            logits = run(self._session, ["logits"], {"image": x[None], "masks": masks})[0]
            rows.append(logits[: self._places - start])
        scores: Float32Array = np.concatenate(rows)
        refuse_nan(scores, "logits")
        return scores

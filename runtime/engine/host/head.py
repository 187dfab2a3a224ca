"""The head of the model, run on activations in which one place after another is kept: for Recipro-CAM."""

import math

import numpy as np
import onnxruntime

from fusioncam.kernels.arrays import Float32Array, Size
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.sessions.run import run_targets
from fusioncam.runtime.targets.readout import LOGITS, Readout

MASKS = 64  # per run, at most: bounds the memory


def masks_per_run(grid: Size) -> int:
    """Return the number of masks of every run, so that the places of a grid (h, w) are dealt out evenly."""
    places = math.prod(grid)
    return -(-places // -(-places // MASKS))


class Head:
    """Runs the head graph of a bundle.

    Safe to share between threads.

    Args:
        session: The head graph: `image` (1, C, H, W), `masks` (M, 1, h, w) and the tensors of targets to the outputs of
            a `Readout`.
        singly: Whether it takes one target per run.

    Attributes:
        grid: (h, w) of the layer.
        chunk: Masks per run, always the same: the places are dealt out evenly, since every run computes what comes
            before the layer again, and a new number of masks is costly on a GPU.
    """

    def __init__(self, session: onnxruntime.InferenceSession, singly: bool = False) -> None:
        self._session, self._singly = session, singly
        masks = next(i for i in session.get_inputs() if i.name == "masks")
        self.grid: Size = tuple(masks.shape[2:])
        self._places = math.prod(self.grid)
        self.chunk = masks_per_run(self.grid)

    def answers(self, x: Float32Array, readout: Readout = LOGITS, inputs: PictureInputs = NO_INPUTS) -> Float32Array:
        """Return the answers to each place alone: Recipro-CAM, arXiv 2209.14074, section 3.2.

        Args:
            x: The picture (C, H, W), preprocessed.
            readout: That of the targets.
            inputs: Further inputs of the picture.

        Returns:
            (h * w, width) float32, places in rows of the grid: those of the activations where all but one place are
            zero.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        rows = []
        for start in range(0, self._places, self.chunk):
            masks = np.eye(self.chunk, self._places, k=start, dtype=np.float32).reshape(-1, 1, *self.grid)
            feeds = {"image": x[None], "masks": masks, **inputs.rows}
            answers = readout.answers(run_targets(self._session, readout.outputs, feeds, readout.tensors, self._singly))
            rows.append(answers[: self._places - start])
        whole: Float32Array = np.concatenate(rows)
        refuse_nan(whole, readout.outputs[0])
        return whole

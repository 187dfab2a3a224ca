"""The result of explaining one class of one picture."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FLAGS = {
    "flat_grad_cam": "the gradient gives no positive evidence: Grad-CAM is blank",
    "flat_score_cam": "no region gives positive evidence: Score-CAM is blank",
    "flat_fusion_cam": "nothing gives positive evidence: Fusion-CAM is blank",
    "equal_contributions": "neither map changes the confidence: both count the same",
    "mixed_contributions": "one map raises the confidence and the other lowers it: a weight is negative",
    "cut_short": "the budget ended before the map was settled: more passes could still change it",
    "assumed_preprocessing": "the model does not say how pictures are prepared: torchvision's usual way was assumed",
}


class Passes(NamedTuple):
    """Masked forward passes that were run, the channels there are in all, and what was not measured.

    `missing` is the share of Score-CAM's softmax weight that rests on expected scores, 0..1 (0 for an exact map): how
    much was left to guess, not how wrong the map is.
    """

    run: int
    channels: int
    missing: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """Why a model sees a class in a picture.

    Attributes:
        maps: One (H, W) float32 array in [0, 1] per method, at the size of the model's input.
        class_index: The class that is explained.
        label: Its name, where the bundle has labels.
        probability: What the model gives it, 0..1.
        flags: Which of the special cases in `FLAGS` were met.
        passes: Masked passes run, out of the channels there are. Shared by all classes of a picture.
        timing: Seconds per stage. Shared by all classes of a picture.
    """

    maps: dict[str, npt.NDArray[np.float32]] = field(repr=False)
    class_index: int
    label: str | None
    probability: float
    flags: tuple[str, ...]
    passes: Passes
    timing: dict[str, float]

    @property
    def title(self) -> str:
        """The class as a person would name it."""
        return self.label or f"class {self.class_index}"

    def summary(self) -> dict[str, Any]:
        """Everything but the maps, ready for JSON."""
        return {
            "class_index": self.class_index,
            "label": self.label,
            "probability": self.probability,
            "methods": list(self.maps),
            "flags": {flag: FLAGS[flag] for flag in self.flags},
            "passes": self.passes._asdict(),
            "timing_seconds": {stage: round(seconds, 6) for stage, seconds in self.timing.items()},
        }

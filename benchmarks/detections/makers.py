"""Whatever makes maps of detections: methods, models with shuffled weights, D-RISE."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusioncam import Explainer, fusion_cam
from fusioncam.runtime.targets.resolved import ResolvedTarget

METHODS = ("fusion_cam", "grad_cam", "score_cam", "layer_cam")
VARIANTS = tuple(
    method
    for region in ("score_cam_probability", "score_cam_increase")
    for method in (fusion_cam(region=region), region)
)
WITNESS = "rise"
BUDGETS = (2, 8, 16, 32, 64, 256, 512)  # masks of D-RISE
OURS, MOVED, SHUFFLED = "fusion_cam", "moved", "shuffled"


class Maker(NamedTuple):
    """An explainer, and what its maps are called beside their method."""

    explainer: Explainer
    note: str = ""

    def maps(self, image: np.ndarray, targets: Sequence[ResolvedTarget]) -> tuple[dict[str, list[np.ndarray]], int]:
        """Explain targets of a picture together; return the maps by name, and the passes run."""
        made = list(self.explainer.explain_batch([image], target=[list(targets)]))
        maps = {f"{m} {self.note}".strip(): [e.maps[m] for e in made] for m in self.explainer.methods}
        return maps, made[0].passes.run


def makers(bundle: Path, shuffled: Path) -> Iterator[Maker]:
    """Yield whatever makes maps, the bundle's own first."""
    for folder, note in ((bundle, ""), (shuffled, SHUFFLED)):
        for methods in (METHODS, VARIANTS):
            yield Maker(Explainer(folder, methods=methods, threads=1), note)
    for n in BUDGETS:
        yield Maker(Explainer(bundle, methods=(WITNESS,), budget=n, threads=1), str(n))

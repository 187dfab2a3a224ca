"""The engine's own steps on a stored case: only the model is replaced, by a table from masks to scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.rise import PICTURES
from fusioncam.manifest import Ending
from fusioncam.runtime.budget import Budget, checked_budget
from fusioncam.runtime.engine.host.chunks import MaskChunk
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.random_masks import RandomMaps
from fusioncam.runtime.engine.host.scorer import GRAIN
from fusioncam.runtime.engine.host.steps import HostSteps, PictureEvidence
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import Result, Task
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.targets.readout import ClassReadout
from fusioncam.runtime.targets.resolved import of_class
from promise.store import Case

ENDING: Ending = "softmax"  # Score-CAM's weights are of logits, so that the ending does not matter


class Replayed(NamedTuple):
    """The result of one run.

    Attributes:
        maps: Score-CAM (H, W) of each class.
        passes: As an explanation of Fusion-CAM has it.
        exact: Passes of the exact explanation.
    """

    maps: list[Array]
    passes: Passes
    exact: int


def replay(case: Case, positions: Sequence[int], budget: Budget) -> Replayed:
    """Explain some of the stored classes of a case together, by their positions, as Fusion-CAM would.

    Of Fusion-CAM's other passes the denoised maps ride with the first channels, and R and U of each class follow. They
    are counted, not replayed: Score-CAM does not depend on them.
    """
    readout = ClassReadout([of_class(p) for p in positions], ENDING).settled([case.logits[None]])
    evidence = PictureEvidence(
        readout, case.logits, case.activations, [case.gradients[p] for p in positions],
        range(len(positions)), RandomMaps(readout, PICTURES, seed=0),
    )  # fmt: skip
    passes = MaskedPasses(case.image, Clock(), readout=readout)
    steps = HostSteps(passes, evidence, checked_budget(budget), GRAIN, _no_head)
    denoised, following = [np.zeros(case.size, np.float32)] * len(positions), 2 * len(positions)
    answer(case, steps.score_channels(False, [denoised], following, 1))
    maps = answer(case, steps.region_map("score_cam", following))
    others = 1 + len(positions) + following
    return Replayed(maps, steps.passes._replace(run=steps.passes.run + following), len(case.live) + others)


def answer(case: Case, task: Task[Result]) -> Result:
    """Run a task whose pictures get the stored scores of their masks; a picture without a mask counts as blank."""
    rows = np.where(np.isnan(case.scores), case.baseline, case.scores)
    known = {mask.tobytes(): row for mask, row in zip(case.masks.scaled, rows, strict=True)}
    try:
        while True:
            request = next(task)
            grid = case.activations.shape[1:]
            held = MaskChunk([grid]).rows(request.count)
            request.fill(0, request.count, held)
            request.take(0, np.stack([known.get(m.tobytes(), case.baseline) for m in held.masks]))
    except StopIteration as done:
        result: Result = done.value
        return result


def _no_head() -> Any:
    raise AssertionError("no head is asked for")


def squared_error(r: float) -> float:
    """Return 1 - r^2, the squared error of a map relative to the exact one; a map of opposite sign is all wrong."""
    return 1 - max(r, 0.0) ** 2

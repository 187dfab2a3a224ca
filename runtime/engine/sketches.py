"""Maps that are shown while they are made: those of the gradient at once, those of Score-CAM after every guess."""

from collections.abc import Callable, Sequence
from typing import Any

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.cam_methods import SCORE_CAMS
from fusioncam.runtime.engine.protocols import Steps
from fusioncam.runtime.engine.request import ExplainRequest, Sketch
from fusioncam.runtime.methods import with_parts


class Sketches:
    """The maps of one view so far, for whoever watches.

    A fused map needs the confidences of its parts, which come last. Until then its parts stand in for it.

    Args:
        show: Called with all maps that there are.
        methods: The methods asked for.
    """

    def __init__(self, show: Callable[[Sketch], None], methods: Sequence[str]) -> None:
        self._show, self._parts = show, with_parts(methods)
        self._maps: dict[str, Sequence[Array]] = {}

    def score_cams(self, corners: bool) -> list[str]:
        """Return the Score-CAMs whose masks are enlarged in this way, see `ScoreCam`."""
        return [m for m, made_of in SCORE_CAMS.items() if m in self._parts and made_of.corners == corners]

    def add(self, method: str, maps: Sequence[Array]) -> None:
        """Take the maps (H, W) of each target by a method, in place of earlier ones."""
        self._maps[method] = maps

    def show(self, steps: Steps[Any, Any, Any]) -> None:
        """Show all maps, if there is any."""
        if self._maps:
            maps = [{m: of_targets[n] for m, of_targets in self._maps.items()} for n in range(len(steps.targets))]
            self._show(Sketch(steps.targets, steps.logits, maps, steps.passes))


def sketches_of(request: ExplainRequest) -> Sketches | None:
    """Return the sketches that a request wants; None where nobody watches, and nothing is to be made."""
    return None if request.sketched is None else Sketches(request.sketched, request.methods)

"""Maps that are shown while they are made: those of the gradient at once, those of Score-CAM after every guess."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.cam_methods import SCORE_CAMS
from fusioncam.runtime.engine.levels import Level
from fusioncam.runtime.engine.protocols import Steps
from fusioncam.runtime.engine.recipe import TargetMaps, mean
from fusioncam.runtime.engine.request import ExplainRequest, Sketch
from fusioncam.runtime.methods import with_parts
from fusioncam.runtime.passes import Passes
from fusioncam.runtime.targets.resolved import ResolvedTarget


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


class LevelSketches:
    """The maps of all targets of a view, while one level after the other explains them.

    A target of several levels shows the mean over those that have made a map. Methods that some target lacks are left
    out until it has them.

    Args:
        show: Called with all maps that there are.
        targets: All targets.
        logits: See `Sketch`.
    """

    def __init__(
        self, show: Callable[[Sketch], None], targets: Sequence[ResolvedTarget], logits: Float32Array | None
    ) -> None:
        self._show, self._targets, self._logits = show, targets, logits
        self._maps: list[dict[str, dict[int, Array]]] = [{} for _ in targets]  # by method and level
        self._passes: dict[int, Passes] = {}

    def of(self, level: Level) -> Callable[[Sketch], None]:
        """Return the function that takes the sketches of one level, and shows them with those of others."""

        def take(sketch: Sketch) -> None:
            self._passes[level.number] = sketch.passes
            self.add(level, sketch.maps)
            self._show_all()

        return take

    def add(self, level: Level, maps: Sequence[Mapping[str, Array]]) -> None:
        """Take the maps (H, W) of a level, by method, of each of its targets."""
        for n, of_target in zip(level.targets, maps, strict=True):
            for method, array in of_target.items():
                self._maps[n].setdefault(method, {})[level.number] = array

    def _show_all(self) -> None:
        methods = [m for m in self._maps[0] if all(m in of_target for of_target in self._maps)]
        if methods:
            maps = [{m: _mean(m, of_target[m].values()) for m in methods} for of_target in self._maps]
            self._show(Sketch(self._targets, self._logits, maps, Passes.of_all([*self._passes.values()])))


def _mean(method: str, maps: Iterable[Array]) -> Array:
    return mean([TargetMaps({method: array}) for array in maps]).maps[method]


def sketches_of(request: ExplainRequest) -> Sketches | None:
    """Return the sketches that a request wants; None where nobody watches, and nothing is to be made."""
    return None if request.sketched is None else Sketches(request.sketched, request.methods)

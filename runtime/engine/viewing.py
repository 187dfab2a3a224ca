"""The explanation of one view of a picture, unless the prediction says that none is wanted."""

from collections.abc import Sequence
from dataclasses import replace

from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.recipe import TargetMaps, ViewResult, make_maps, mean
from fusioncam.runtime.engine.request import ExplainRequest, inputs_of
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.engine.smoothing import View
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.targets.resolved import ResolvedTarget


class NotExplainedError(Exception):
    """The end of an explanation whose condition does not hold. An error, so that its pace is none of an explanation's.

    Args:
        result: The prediction, without maps.
    """

    def __init__(self, result: ViewResult) -> None:
        super().__init__("the condition does not hold")
        self.result = result


def explain_view(engine: Engine, view: View, request: ExplainRequest) -> Task[ViewResult]:
    """Explain one view of the picture.

    Args:
        engine: The engine.
        view: The view.
        request: The request, with the targets of the view, see `TargetResolver.seen_in`.

    Raises:
        NotExplainedError: The request has a condition, which holds for none of its targets.
        FusionCamError: The model cannot be run, or gives NaN or infinity.
    """
    inputs = view.inputs(inputs_of(request))
    with engine.forward(replace(request, x=view.x, inputs=inputs)) as forward:
        seen = list(forward.targets)
        if not _is_wanted(request, seen):
            made = [TargetMaps(flags=["not_explained"]) for _ in seen]
            raise NotExplainedError(ViewResult(seen, made, forward.logits, Passes(0, forward.channels)))
        of_levels: list[list[TargetMaps]] = [[] for _ in seen]
        layers: list[tuple[str, ...]] = [() for _ in seen]
        passes = []
        for layer, numbers, steps in forward.levels:
            made = yield from make_maps(steps, request.methods)
            for n, of_target in zip(numbers, made, strict=True):
                of_levels[n].append(of_target)
                layers[n] += (layer,)
            passes.append(steps.passes)
        made = list(map(mean, of_levels))
        for of_target in made:
            of_target.maps = {method: view.back(m) for method, m in of_target.maps.items()}
        for of_target, target in zip(made, seen, strict=True):
            of_target.flags += ["lost_in_mirror"] * (view.mirrored and not target.is_found)
        request.clock.lap("fusion")
        return ViewResult(seen, made, forward.logits, Passes.of_all(passes), layers)


def _is_wanted(request: ExplainRequest, targets: Sequence[ResolvedTarget]) -> bool:
    """Return whether a request has no condition, or one that holds for a target."""
    holds = request.condition
    return holds is None or any(holds(t.class_index, t.confidence or 0.0) for t in targets)

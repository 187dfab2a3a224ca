"""The explanation of one view of a picture, unless the prediction says that none is wanted."""

from collections.abc import Sequence
from dataclasses import replace

from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.recipe import TargetMaps, ViewResult, make_maps
from fusioncam.runtime.engine.request import ExplainRequest, inputs_of, prepared
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.engine.smoothing import View
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

    Raises:
        NotExplainedError: The request has a condition, which holds for none of its targets.
        FusionCamError: The model cannot be run, or gives NaN or infinity.
    """
    _, targets = prepared(request)
    inputs = view.inputs(inputs_of(request))
    with engine.forward(replace(request, x=view.x, targets=view.targets(targets), inputs=inputs)) as steps:
        if not _is_wanted(request, steps.targets):
            made = [TargetMaps(flags=["not_explained"]) for _ in steps.targets]
            raise NotExplainedError(ViewResult(list(steps.targets), made, steps.logits, steps.passes))
        made = yield from make_maps(steps, request.methods)
        for of_target in made:
            of_target.maps = {method: view.back(m) for method, m in of_target.maps.items()}
        request.clock.lap("fusion")
        return ViewResult(list(steps.targets), made, steps.logits, steps.passes)


def _is_wanted(request: ExplainRequest, targets: Sequence[ResolvedTarget]) -> bool:
    """Return whether a request has no condition, or one that holds for a target."""
    holds = request.condition
    return holds is None or any(holds(t.class_index, t.confidence or 0.0) for t in targets)

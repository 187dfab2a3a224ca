"""The explanation of one view of a picture, unless the prediction says that none is wanted."""

from collections.abc import Sequence
from dataclasses import replace

from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Ending
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.recipe import ClassMaps, ViewResult, make_maps
from fusioncam.runtime.engine.request import ExplainRequest
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.engine.smoothing import View


class NotExplainedError(Exception):
    """The end of an explanation whose condition does not hold. An error, so that its pace is none of an explanation's.

    Args:
        result: The prediction, without maps.
    """

    def __init__(self, result: ViewResult) -> None:
        super().__init__("the condition does not hold")
        self.result = result


def explain_view(engine: Engine, view: View, request: ExplainRequest, ending: Ending) -> Task[ViewResult]:
    """Explain one view of the picture.

    Raises:
        NotExplainedError: The request has a condition, which holds for none of its classes.
        FusionCamError: The model cannot be run, or gives NaN or infinity.
    """
    with engine.forward(replace(request, x=view.x)) as steps:
        if not _is_wanted(request, steps.classes, steps.logits, ending):
            made = [ClassMaps(flags=["not_explained"]) for _ in steps.classes]
            raise NotExplainedError(ViewResult(list(steps.classes), made, steps.logits, steps.passes))
        made = yield from make_maps(steps, request.methods)
        for of_class in made:
            of_class.maps = {method: view.back(m) for method, m in of_class.maps.items()}
        request.clock.lap("fusion")
        return ViewResult(list(steps.classes), made, steps.logits, steps.passes)


def _is_wanted(request: ExplainRequest, classes: Sequence[int], logits: Float32Array, ending: Ending) -> bool:
    """Return whether a request has no condition, or one that holds for a class."""
    if request.condition is None:
        return True
    chances = probabilities(logits, ending)
    return any(request.condition(c, float(chances[c])) for c in classes)

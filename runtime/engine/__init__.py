"""The engine: the work of one request, from a picture to its maps. This is its door: others import it from here."""

from fusioncam.runtime.engine.bundles import read_bundles
from fusioncam.runtime.engine.holder import PipelineHolder
from fusioncam.runtime.engine.host.passes import MaskedPasses, Pictures
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.pipeline import Pipeline
from fusioncam.runtime.engine.progress import Clock, Progress
from fusioncam.runtime.engine.request import ExplainRequest, Levels, TargetChoice, checked_levels
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, PassRequest, RunningTask, Scheduler, Task
from fusioncam.runtime.engine.sizes import MAX_SIZES, SizeChoice, SizedPipelines
from fusioncam.runtime.engine.smoothing import checked_smoothing
from fusioncam.runtime.targets.resolved import TOP_CLASS
from fusioncam.runtime.targets.tasks import Asked, TargetScore

__all__ = [
    "IN_FLIGHT",
    "MAX_SIZES",
    "TOP_CLASS",
    "Asked",
    "Clock",
    "EngineOptions",
    "ExplainRequest",
    "Levels",
    "MaskedPasses",
    "PassRequest",
    "Pictures",
    "Pipeline",
    "PipelineHolder",
    "Progress",
    "RunningTask",
    "Scheduler",
    "SizeChoice",
    "SizedPipelines",
    "TargetChoice",
    "TargetScore",
    "Task",
    "checked_levels",
    "checked_smoothing",
    "read_bundles",
]

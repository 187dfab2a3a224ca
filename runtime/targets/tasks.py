"""The targets that fit what a model does, a row of `TASKS` each, and the way from what a user asks for to them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.boxes import (
    best_detections,
    check_box,
    check_detections,
    check_each,
    check_rivals,
    of_class,
    resolve_box,
    resolve_detections,
    resolve_each,
    resolve_matched,
    resolve_rivals,
)
from fusioncam.runtime.targets.classes import (
    all_values,
    check_class,
    check_value,
    checked_number,
    resolve_class,
    resolve_value,
    top_class,
)
from fusioncam.runtime.targets.kinds import (
    Box,
    Cells,
    Class,
    Detections,
    Each,
    Like,
    Matched,
    Region,
    Rivals,
    Target,
    Value,
)
from fusioncam.runtime.targets.likeness import check_like, no_default, resolve_like
from fusioncam.runtime.targets.regions import (
    check_cells,
    check_region,
    resolve_cells,
    resolve_map_region,
    resolve_map_value,
    resolve_region,
    winning_regions,
)
from fusioncam.runtime.targets.resolved import TOP, ResolvedTarget
from fusioncam.runtime.targets.sight import Sight

Asked = Target | ResolvedTarget | int | str | None
"""A target as it is asked for: a class may be named without its kind; None is the default one of the picture."""


Checked = Target | ResolvedTarget | None
"""A target that `checked_target` found fit for the model; None for the default one."""


class TargetScore(NamedTuple):
    """A target of a picture, and what the model makes of it.

    Attributes:
        target: The target, as `Explainer.explain` takes it.
        score: Its score: a logit, a mean of logits, a value, a cosine, or the probability of a detection.
        confidence: Its confidence: a probability, a mean of probabilities, or the score itself.
    """

    target: Target
    score: float
    confidence: float


class TaskTargets(NamedTuple):
    """The targets of a task.

    Attributes:
        does: What the model does, for errors.
        kinds: The kinds of targets that fit, with the function that resolves each.
        of_class: Returns the target that a class by its number stands for; None where there are no classes.
        defaults: Returns the targets of a picture for which nobody names one.
        groups: Kinds that stand for several targets of a picture, with the function that resolves each.
    """

    does: str
    kinds: Mapping[type, Callable[[Any, Sight], ResolvedTarget]]
    of_class: Callable[[int], Target] | None
    defaults: Callable[[Sight], list[Target]]
    groups: Mapping[type, Callable[[Any, Sight], list[ResolvedTarget]]] = {}


CHECKS: Mapping[type, Callable[[Any, Manifest], Target]] = {
    Class: check_class,
    Value: check_value,
    Region: check_region,
    Cells: check_cells,
    Like: check_like,
    Box: check_box,
    Detections: check_detections,
    Each: check_each,
    Rivals: check_rivals,
    Matched: lambda matched, _: matched,
}
"""The check of each kind before there is a picture: it raises UsageError."""

TASKS: Mapping[str, TaskTargets] = {
    "classify": TaskTargets("classifies", {Class: resolve_class}, Class, top_class),
    "value": TaskTargets("gives values", {Value: resolve_value, Class: resolve_class}, Class, all_values),
    "segment": TaskTargets("segments", {Region: resolve_region, Cells: resolve_cells}, Region, winning_regions),
    "maps of values": TaskTargets(
        "gives heat maps",
        {Value: resolve_map_value, Region: resolve_map_region, Cells: resolve_cells},
        Value,
        all_values,
    ),
    "embed": TaskTargets("gives an embedding", {Like: resolve_like}, None, no_default),
    "detect": TaskTargets(
        "detects",
        {Box: resolve_box, Detections: resolve_detections},
        of_class,
        best_detections,
        {Each: resolve_each, Rivals: resolve_rivals, Matched: resolve_matched},
    ),
}


def checked_target(manifest: Manifest, asked: Any) -> Checked:
    """Return a target that fits the model, with its class by its number; None for the one that is explained by default.

    Args:
        manifest: The bundle's.
        asked: A target; or a class by its number or name.

    Raises:
        UsageError: There is no such class, or the target does not fit the model.
    """
    task = task_of(manifest)
    if asked is None or isinstance(asked, ResolvedTarget):
        return asked
    if isinstance(asked, Class) or type(asked) not in CHECKS:
        c = checked_number(manifest, asked.class_ if isinstance(asked, Class) else asked)
        if c < 0:
            return None
        if task.of_class is None:
            raise UsageError(f"a model that {task.does} has no classes: {_use(task)}")
        asked = task.of_class(c)
    if type(asked) not in (*task.kinds, *task.groups):
        raise UsageError(f"{type(asked).__name__} does not fit a model that {task.does}: {_use(task)}")
    return CHECKS[type(asked)](asked, manifest)


def resolve(target: Checked, sight: Sight) -> ResolvedTarget:
    """Return a target that `checked_target` returned, resolved for a picture.

    Raises:
        UsageError: The picture has no such target.
        ImageError: A mask or a reference cannot be read.
    """
    if isinstance(target, ResolvedTarget):
        return target
    if target is None and sight.manifest.form.kind == "vector":
        return TOP
    chosen = default_targets(sight)[0] if target is None else target
    return task_of(sight.manifest).kinds[type(chosen)](chosen, sight)


def resolve_all(target: Checked, sight: Sight) -> list[ResolvedTarget]:
    """Return the targets that one that `checked_target` returned stands for: itself, or a group; see `resolve`."""
    group = task_of(sight.manifest).groups.get(type(target))
    return [resolve(target, sight)] if group is None else group(target, sight)


def default_targets(sight: Sight) -> list[Target]:
    """Return the targets of a picture for which nobody names one, the most important first; at least one.

    Raises:
        UsageError: Such a model has none.
    """
    return task_of(sight.manifest).defaults(sight)


def task_of(manifest: Manifest) -> TaskTargets:
    """Return the row of a bundle in `TASKS`."""
    maps_of_values = manifest.form.kind == "maps" and manifest.ending == "value"
    return TASKS["maps of values" if maps_of_values else manifest.task]


def _use(task: TaskTargets) -> str:
    return "use " + " or ".join(kind.__name__ for kind in task.kinds if kind is not Cells)

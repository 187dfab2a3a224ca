"""The request: one value that says what is explained, and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine.progress import Clock, Progress
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.picture_inputs import PictureInputs
from fusioncam.runtime.prepared import PreparedPicture, ResultPhoto
from fusioncam.runtime.probes.verdict import passes_of
from fusioncam.runtime.targets.resolved import TOP_CLASS, ResolvedTarget
from fusioncam.runtime.targets.tasks import Asked

TargetChoice = Callable[[Array], list[int]]
"""Chooses classes, by their indices, by the probabilities of all classes (classes,); of a model without a vector of
classes, default targets by their confidences (T,)."""


Levels = Literal["own", "mean"]


class Sketch(NamedTuple):
    """The maps of a view of a picture, as far as they are made.

    Attributes:
        targets: The targets.
        logits: Of all classes (classes,); None where the outputs are no vector.
        maps: Maps (H, W) of each target, by method.
        passes: Masked passes run so far, and the error of Score-CAM's map.
    """

    targets: Sequence[ResolvedTarget]
    logits: Float32Array | None
    maps: Sequence[dict[str, Array]]
    passes: Passes


@dataclass(frozen=True)
class ExplainRequest:
    """A picture to explain, and how: for one task, whose seconds its clock gets.

    Attributes:
        x: A picture in any form that `as_input` takes. Engines take a preprocessed (C, H, W) only.
        targets: The targets, which share masked passes; or a function that chooses them. Engines take resolved targets
            only.
        methods: Names of the maps to make.
        budget: Masked passes to spend, see `Explainer`.
        clock: Gets the seconds per stage.
        progress: Called with (done, all) masked passes after every chunk.
        verify: Whether a verdict on the maps is wanted.
        until: When the maps are due, by `clock.now`, where the budget is a deadline; by default that long after the
            clock was made.
        progress_maps: Called with preliminary explanations, one per target, whenever there are better maps.
        sketched: The same within an engine, for one view of the picture.
        keep_photo: Whether results keep the pixels of a photo that is not on disk.
        photo: The photo, for results of a picture that is preprocessed by now.
        inputs: Further inputs of the model, see `read_inputs`. Engines take rows only.
        condition: Called with a class and its probability after the explain pass; where it holds for no target, no map
            is made, and the explanations have the flag `not_explained`.
        dark: Whether the picture is nearly black, see `PreparedPicture`.
        levels: Which levels of a detector's neck explain a target: its `own` one, or the `mean` of all.
        or_nothing: Whether a picture in which nothing of the kind is detected has an explanation that says so, with the
            flag `nothing_detected`, in place of an error.
    """

    x: ImageLike | Given | PreparedPicture
    targets: Sequence[Asked] | TargetChoice = (TOP_CLASS,)
    methods: Sequence[str] = METHODS
    budget: Budget = "exact"
    clock: Clock = field(default_factory=Clock)
    progress: Progress | None = None
    verify: bool = False
    until: float | None = None
    progress_maps: Callable[[Sequence[Explanation]], None] | None = None
    sketched: Callable[[Sketch], None] | None = None
    keep_photo: bool = False
    photo: ResultPhoto | None = None
    inputs: InputValues | PictureInputs | None = None
    condition: Callable[[int, float], bool] | None = None
    dark: bool = False
    levels: Levels = "own"
    or_nothing: bool = False


def prepared(request: ExplainRequest) -> tuple[Float32Array, Sequence[ResolvedTarget]]:
    """Return the preprocessed picture and the targets of a request that an engine can take."""
    assert isinstance(request.x, np.ndarray)
    assert not callable(request.targets)
    targets = [t for t in request.targets if isinstance(t, ResolvedTarget)]
    assert len(targets) == len(request.targets), "the pipeline resolves them"
    return np.asarray(request.x, np.float32), targets


def inputs_of(request: ExplainRequest) -> PictureInputs:
    """Return the further inputs of a request that an engine can take."""
    assert isinstance(request.inputs, PictureInputs), "the pipeline reads them"
    return request.inputs


def checked_levels(levels: Any) -> Levels:
    """Return a choice of levels; raise UsageError where there is no such choice."""
    choices: tuple[Levels, ...] = get_args(Levels)
    if levels not in choices:
        raise UsageError(f"levels is {' or '.join(map(repr, choices))}, not {quote(levels)}")
    return levels  # type: ignore[no-any-return]


def reserved_passes(request: ExplainRequest) -> int:
    """Return the passes that a verdict takes after the maps are made; they count against a budget that is a number."""
    return passes_of(len(prepared(request)[1])) if request.verify else 0

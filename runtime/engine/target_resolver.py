"""Resolve the targets of a request: what a user asks for becomes what the graphs take of one picture."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from fusioncam.errors import NothingDetectedError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.request import ExplainRequest, TargetChoice, inputs_of
from fusioncam.runtime.engine.smoothing import View
from fusioncam.runtime.picture_inputs import PictureInputs
from fusioncam.runtime.prepared import PreparedPicture
from fusioncam.runtime.targets.counterparts import with_counterparts
from fusioncam.runtime.targets.detections import Anchors
from fusioncam.runtime.targets.readout import readout_of
from fusioncam.runtime.targets.resolved import ResolvedTarget, nothing
from fusioncam.runtime.targets.sight import Outputs, Sight
from fusioncam.runtime.targets.tasks import (
    Asked,
    TargetScore,
    checked_target,
    default_targets,
    resolve,
    resolve_all,
    task_of,
)


def is_listing(request: ExplainRequest, manifest: Manifest) -> bool:
    """Return whether no map is wanted of targets that graphs score: those are read without a gradient."""
    return manifest.form.scored and not request.methods


class TargetResolver:
    """Resolves targets for pictures.

    Args:
        manifest: The bundle's.
        engine: Reads what the model makes of a picture, where a target follows from that.
    """

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self._manifest, self._engine = manifest, engine

    def resolved(self, request: ExplainRequest) -> list[ResolvedTarget]:
        """Return the targets of a request with a preprocessed picture; those that follow from it take a forward pass.

        Where no map is wanted, they have their scores and confidences, which take no gradient. There may be none, then,
        and where they are chosen; with `or_nothing` the only one says why there is none.

        Raises:
            UsageError: There is no such target.
            ImageError: A mask or a reference cannot be read.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """

        def read(x: Float32Array) -> Outputs:
            outputs = self._engine.read(x, inputs_of(request))
            request.clock.lap("explain")
            return outputs

        photo_size = None if request.photo is None else request.photo.size
        sight = Sight(self._manifest, np.asarray(request.x), photo_size, read)
        try:
            asked = self._chosen(request.targets, sight) if callable(request.targets) else request.targets
            targets = [one for t in asked for one in resolve_all(checked_target(self._manifest, t), sight)]
        except NothingDetectedError as error:
            if request.or_nothing:
                return [nothing(str(error))]
            if not (is_listing(request, self._manifest) or callable(request.targets)):
                raise
            return []
        return self._read(targets, sight) if is_listing(request, self._manifest) else targets

    def seen_in(self, view: View, targets: Sequence[ResolvedTarget], inputs: PictureInputs) -> list[ResolvedTarget]:
        """Return targets of a picture as targets of a view of it; those of detections take a forward pass there.

        A detection that the view lacks is not found, see `ResolvedTarget.is_found`.
        """
        turned = view.targets(targets)
        if not view.mirrored or self._manifest.detector is None:
            return turned
        sight = Sight(self._manifest, view.x, None, partial(self._engine.read, inputs=view.inputs(inputs)))
        return [with_counterparts(target, sight.anchors) for target in turned]

    def defaults(self, picture: PreparedPicture, inputs: PictureInputs) -> list[TargetScore]:
        """Return the targets of a picture for which nobody names one, with their scores and confidences."""
        sight = self._sight(picture, inputs)
        targets = default_targets(sight)
        read = self._read([resolve(target, sight) for target in targets], sight)
        return [TargetScore(t, r.score or 0.0, r.confidence or 0.0) for t, r in zip(targets, read, strict=True)]

    def anchors(self, picture: PreparedPicture, inputs: PictureInputs) -> Anchors:
        """Return what a detector makes of a picture; raise UsageError where the model is none."""
        if self._manifest.detector is None:
            raise UsageError(f"a model that {task_of(self._manifest).does} has no detections: it is no detector")
        return self._sight(picture, inputs).anchors

    def _sight(self, picture: PreparedPicture, inputs: PictureInputs) -> Sight:
        return Sight(self._manifest, picture.x, picture.photo.size, partial(self._engine.read, inputs=inputs))

    def _chosen(self, choose: TargetChoice, sight: Sight) -> Sequence[Asked]:
        """Return the targets that are chosen by the probabilities of all classes, or of the default targets."""
        if self._manifest.form.kind == "vector":
            return choose(probabilities(sight.form, self._manifest.ending))
        defaults = default_targets(sight)
        read = self._read([resolve(target, sight) for target in defaults], sight)
        return [defaults[n] for n in choose(np.array([target.confidence for target in read]))]

    def _read(self, targets: Sequence[ResolvedTarget], sight: Sight) -> list[ResolvedTarget]:
        """Return targets of a picture with their scores and confidences."""
        return readout_of(self._manifest, targets).read(sight.form) if targets else []

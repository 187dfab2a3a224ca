"""Detections in a mirrored picture: the same one is there, at an anchor of its own, or it is not there."""

from dataclasses import replace

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.boxes import overlaps
from fusioncam.runtime.targets.detections import Anchors
from fusioncam.runtime.targets.resolved import ResolvedTarget

LEAST = 0.5  # overlap with the mirrored box, as of a user's box with the detection that it names
SHARE = 0.5  # of the score: a detection that barely counts in the picture may count a little less in the mirrored one


def with_counterparts(target: ResolvedTarget, anchors: Anchors) -> ResolvedTarget:
    """Return a target of a mirrored picture at the anchors of the detections there that are its own.

    Those are the detections of its class that overlap its boxes most, by at least a half. A box without one keeps the
    anchor -1, which leaves the choice to the graph, see `ResolvedTarget.is_found`.

    Args:
        target: The target, mirrored.
        anchors: What the detector makes of the mirrored picture.
    """
    if target.parts:
        return replace(target, parts=tuple(with_counterparts(part, anchors) for part in target.parts))
    detection = target.detection
    if detection is None:
        return target
    found = anchors.found(min(anchors.detector.conf, SHARE * detection.score))
    own = [d for d in found if d.class_index == detection.class_index]
    shares = overlaps(target.tensors["box"], np.array([d.box_on_input for d in own]).reshape(-1, 4))
    if not (shares >= LEAST).any():
        return target
    anchor: dict[str, Array] = {"anchor": np.array(own[int(shares.argmax())].anchor, np.int64)}
    return replace(target, tensors={**target.tensors, **anchor})

"""The detections that a request names: by their numbers in the list of all, by class, box or point, or all as one."""

from collections.abc import Mapping
from typing import Any

from fusioncam.detector import Detector
from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import checked_count
from fusioncam.runtime.targets.kinds import Box, Detections, Each, Target

OF_DETECTORS = ("box", "point", "detection", "together", "by", "keypoint", "conf", "iou", "most", "levels")
"""Inputs and parameters that name detections, beside the class."""
SHARED = ("by", "keypoint", "conf", "iou")  # of every kind of target


def detections_of(given: Mapping[str, Any], single: bool, mapped: bool, detector: Detector) -> Target:
    """Return the target of a detector by what names it: one detection, all as one, or each.

    Args:
        given: Values by the names of inputs and parameters.
        single: Whether an answer about one picture is about one target.
        mapped: Whether there are maps; without, all detections are listed.
        detector: The model's.

    Raises:
        UsageError: What is given contradicts itself.
    """
    shared = {name: given[name] for name in SHARED if name in given}
    c = given.get("class_index", -1)
    class_ = None if c < 0 else c
    if "most" in given and (single or given.get("together") or given.keys() & {"box", "point", "detection"}):
        raise UsageError("most says how many detections are explained, and this request is about one: leave it out")
    if given.get("together"):
        if "keypoint" in shared:
            raise UsageError("a keypoint is one of a single detection: leave out together, or keypoint")
        return Detections(class_, **shared)
    if "box" in given or "point" in given:
        return Box(class_, given.get("box"), point=given.get("point"), **shared)
    usual = None if mapped else detector.most
    classes = () if class_ is None else (class_,)
    if "detection" in given:
        return Each(classes, numbers=(given["detection"],), **shared)
    most = checked_count("most", given.get("most"), detector.most)
    return Box(class_, **shared) if single else Each(classes, most=most or usual, **shared)

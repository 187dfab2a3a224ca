"""The user's thresholds of detections, over those of the family."""

from collections.abc import Mapping
from typing import Any

from fusioncam.detector import Detector
from fusioncam.errors import UsageError

THRESHOLDS = ("conf", "iou", "agnostic", "most")  # options of an export
SHARES = ("conf", "iou")


def with_thresholds(detector: Detector | None, options: Mapping[str, Any]) -> Detector | None:
    """Return a detector with the thresholds that a user gave; None of a model that is none.

    Raises:
        UsageError: The model is no detector, or as `refuse_thresholds`.
    """
    given = refuse_thresholds(options)
    if detector is None:
        if given:
            raise UsageError(f"--{next(iter(given))} is for detectors, and this model is none; leave it out")
        return None
    if given.pop("agnostic", False):
        given["class_wise"] = False
    return detector.model_copy(update=given)


def refuse_thresholds(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the thresholds that a user gave, once they are seen to be possible.

    Raises:
        UsageError: A threshold is not in [0, 1], or the number is below 1.
    """
    given = {name: options[name] for name in THRESHOLDS if options[name] is not None and options[name] is not False}
    for name in SHARES:
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError(f"--{name} is a number from 0 to 1, not {value!r}")
    most = given.get("most", 1)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise UsageError(f"--most is a whole number from 1 on, not {most!r}")
    return given

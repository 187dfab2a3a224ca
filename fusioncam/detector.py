"""`Detector`, the part of a manifest that says what a detector's boxes are, and which of them count."""

from typing import Annotated, Literal

from pydantic import Field

from fusioncam.preprocessing import Part, Positive

Share = Annotated[float, Field(ge=0, le=1)]
ExtraKind = Literal["none", "masks", "keypoints", "rotated"]
KEYPOINT = 3  # numbers of a keypoint: x, y, and the logit of its visibility, which some detectors leave out
ROTATED = 5  # numbers of a rotated box: its centre, width and height, and the angle in radians


class Detector(Part):
    """The boxes of a detector, and the thresholds by which some of them are detections.

    Attributes:
        anchors: The number A of places or queries that give a box each.
        background: The number of the class that stands for no object; None where there is none. Where it comes after
            all classes, it is none of them.
        conf: The least score of a detection.
        iou: The least overlap (intersection over union) by which the lower of two detections is a duplicate.
        class_wise: Whether only boxes of one class are duplicates.
        nms: Whether duplicates are looked for; models that are trained to give none need no search.
        multi_label: Whether every class above `conf` at an anchor is a detection, and not the best one alone.
        most: The most detections of a picture.
        extra: What follows the numbers of classes of an anchor: coefficients of an instance mask, keypoints, or a
            rotated box.
        extras: How many numbers that are.
        keypoint: How many of them a keypoint has, two or three, see `KEYPOINT`.
        mask_size: (h, w) of the prototypes of instance masks, which the explain graph gives; None where it gives none.
    """

    anchors: Positive
    background: Annotated[int, Field(ge=0)] | None = None
    conf: Share = 0.25
    iou: Share = 0.7
    class_wise: bool = True
    nms: bool = True
    multi_label: bool = False
    most: Positive = 300
    extra: ExtraKind = "none"
    extras: Annotated[int, Field(ge=0)] = 0
    keypoint: Annotated[int, Field(ge=KEYPOINT - 1, le=KEYPOINT)] = KEYPOINT
    mask_size: tuple[Positive, Positive] | None = None

    def numbers(self, classes: int) -> int:
        """Return how many numbers of classes an anchor has: one more than classes where the background comes last."""
        return classes + (self.background == classes)

    @property
    def keypoints(self) -> int:
        """Return how many keypoints a detection has."""
        return self.extras // self.keypoint if self.extra == "keypoints" else 0

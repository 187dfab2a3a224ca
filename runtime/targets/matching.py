"""Detections matched with objects whose boxes are known, as COCO's evaluation does."""

from collections.abc import Sequence

import numpy as np

from fusioncam.kernels.boxes import overlaps
from fusioncam.runtime.targets.detections import Detection
from fusioncam.runtime.targets.kinds import KnownObject

LEAST = 0.5  # overlap of a detection with its object


def matched(detections: Sequence[Detection], objects: Sequence[KnownObject]) -> dict[int, int]:
    """Return the number of the object that each detection matches, by the number of the detection.

    In the order of their scores, detections take the object that they overlap most, of those of their class that are
    left. A detection that overlaps none by a half matches none.
    """
    left, pairs = dict(enumerate(objects)), dict[int, int]()
    for n in sorted(range(len(detections)), key=lambda n: -detections[n].score):
        box, c = np.array(detections[n].box), detections[n].class_index
        own = [k for k, known in left.items() if known.classes is None or c in known.classes]
        shares = overlaps(box, np.array([left[k].box for k in own]).reshape(-1, 4))
        if (shares >= LEAST).any():
            pairs[n] = own[int(shares.argmax())]
            del left[pairs[n]]
    return pairs

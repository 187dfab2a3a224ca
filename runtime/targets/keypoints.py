"""Names of keypoints: those of the poses of COCO, which detectors of 17 keypoints give."""

import difflib
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote

# In the order of COCO's annotations: cocodataset.org/#format-data, "keypoints".
COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def names_of(count: int) -> tuple[str, ...]:
    """Return the names of so many keypoints; none where they are not those of COCO."""
    return COCO if count == len(COCO) else ()


def keypoint_name(number: int, count: int) -> str:
    """Return the name of a keypoint, out of so many, or its number in words."""
    names = names_of(count)
    return names[number].replace("_", " ") if names else f"keypoint {number}"


def keypoint_number(keypoint: Any, count: int) -> int:
    """Return the number of a keypoint, out of so many, by its number or its name.

    Raises:
        UsageError: There is no such keypoint.
    """
    names = names_of(count)
    if isinstance(keypoint, str) and not keypoint.isdecimal():
        name = "_".join(keypoint.casefold().replace("-", " ").replace("_", " ").split())
        if name in names:
            return names.index(name)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f": give its number, 0 to {count - 1}"
        raise UsageError(f"no keypoint is called {quote(keypoint)}{hint}")
    number = int(keypoint) if isinstance(keypoint, str) else keypoint
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < count:
        raise UsageError(f"there is no keypoint {quote(keypoint)}: the detector gives {count}, 0 to {count - 1}")
    return int(number)

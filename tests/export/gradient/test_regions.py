import itertools
from math import ceil

import numpy as np
import torch

ROWS, COLUMNS = 2, 3
SIZES = f"output_height = {ROWS}, output_width = {COLUMNS}, spatial_scale = 0.9"
# Inside, outside in part, small, turned round, wholly outside.
BOXES = np.array(
    [[0.3, 0.2, 4.1, 5.2], [-3.2, 2.3, 7.7, 9.1], [3, 3, 3.3, 3.2], [5.1, 4.3, 2.2, 1.4], [20, 20, 30, 30]]
)
OWNER = [0, 2, 1, 0, 2]


def aligned(mode="avg", shifted=True, ratio=0, scale=0.9):
    """The operator, point by point."""

    def corners(place, size):
        """The two elements along an axis that a point reads, and their weights."""
        if not -1 <= place <= size:
            return []
        place = place.clamp(0, size - 1)
        low = min(int(place), size - 1)
        return [(low, 1 - (place - low)), (min(low + 1, size - 1), place - low)]

    def binned(picture, box, row, column):
        start, end = box[:2] * scale - shifted / 2, box[2:] * scale - shifted / 2
        length = end - start if shifted else (end - start).clamp(min=1)
        step = length / torch.tensor([COLUMNS, ROWS])
        counts = [ratio or ceil(v) for v in step.tolist()]
        values = []
        for i, j in itertools.product(range(counts[1]), range(counts[0])):
            y = start[1] + (row + (i + 0.5) / counts[1]) * step[1]
            x = start[0] + (column + (j + 0.5) / counts[0]) * step[0]
            pairs = itertools.product(corners(y, picture.shape[1]), corners(x, picture.shape[2]))
            parts = [a * b * picture[:, k, m] for (k, a), (m, b) in pairs] or [0 * picture[:, 0, 0]]
            values.append(torch.stack(parts).amax(0) if mode == "max" else sum(parts))
        if mode == "max":
            return torch.stack(values).amax(0)
        return sum(values, 0 * picture[:, 0, 0]) / max(counts[0] * counts[1], 1)

    def function(x, moved, *, boxes=BOXES, owner=OWNER):
        boxes = torch.from_numpy(boxes.astype(np.float32)).to(x) + moved
        rows = [
            torch.stack([binned(x[min(o, len(x) - 1)], box, i, j) for i in range(ROWS) for j in range(COLUMNS)], -1)
            for box, o in zip(boxes, owner, strict=True)
        ]
        return torch.stack(rows).reshape(len(boxes), -1, ROWS, COLUMNS)

    return function


def model(mode="avg", shifted=True, ratio=0):
    """Boxes that are moved by an input."""
    form = "half_pixel" if shifted else "output_half_pixel"
    options = f'{SIZES}, mode = "{mode}", coordinate_transformation_mode = "{form}", sampling_ratio = {ratio}'
    return f"""agraph (float[N,2,6,7] x, float[5,4] r) => (float y)
    <float[5,4] b = {{{", ".join(map(str, BOXES.astype(float).flat))}}},
     int64[5] o = {{{str(OWNER)[1:-1]}}}, int64[1] one = {{1}}>
    {{n = Shape<end = 1>(x) last = Sub(n, one) owner = Min(o, last) boxes = Add(b, r)
      y = RoiAlign<{options}>(x, boxes, owner)}}"""


SMALL = {"at": lambda x: x / 10}
CASES = [
    *(
        (
            f"{mode}-{'half-pixel' if shifted else 'whole'}-{ratio}-by-{'boxes' if wrt else 'picture'}",
            *(model(mode, shifted, ratio), {}, None, aligned(mode, shifted, ratio), {"wrt": wrt} | SMALL),
        )
        for mode, shifted, ratio, wrt in itertools.product(("avg", "max"), (True, False), (0, 2, 3), (0, 1))
        if mode == "avg" or (wrt == 0 and ratio == 2)
    ),
    (
        "as-many-boxes-as-pictures",
        f"""agraph (float[N,2,6,7] x, float[N,4] r) => (float y) <int64 zero = {{0}}>
        {{n = Shape<end = 1>(r) o = Expand(zero, n)
          y = RoiAlign<{SIZES}, sampling_ratio = 2>(x, r, o)}}""",
        *({}, None),
        lambda x, r: aligned(ratio=2)(x, r, boxes=np.zeros((len(r), 4)), owner=[0] * len(r)),
        {"at": lambda x: 4 * x},
    ),
]


def test_gradient(case, check):
    check(*case)


def test_a_maximum_by_boxes_or_of_any_number_of_points_is_refused(refused):
    text = 'agraph (float[N,2,6,7] x, float[3,4] b, int64[3] o) => (float y) {y = RoiAlign<mode = "max">(x, b, o)}'
    assert "mode max without a sampling_ratio" in refused(text)
    text = 'agraph (float[3,4] x, float[N,2,6,7] p, int64[3] o) => (float y) {y = RoiAlign<mode = "max">(p, x, o)}'
    assert "boxes that depend on the layer, with mode max" in refused(text)

import itertools

import numpy as np
import torch
import torch.nn.functional as fn

X, GRID = ("N", 3, 5, 6), ("N", 4, 7, 2)
X_3D, GRID_3D = ("N", 2, 4, 3, 5), ("N", 2, 3, 4, 3)
TORCH = {"linear": "bilinear", "cubic": "bicubic"}
WIDE = {"at": lambda x: 1.3 * x}  # a third of the points lies outside


MANY = {"opset": 20} | WIDE
IN_3D = [("linear", "zeros", 0), ("linear", "reflection", 1), ("nearest", "border", 0)]


def sample(mode="linear", padding="zeros", corners=0):
    return lambda x, grid: fn.grid_sample(x, grid, TORCH.get(mode, mode), padding, bool(corners))


def affine(corners, size):
    return lambda theta: fn.affine_grid(theta, [len(theta), *size], bool(corners))


WEIGHTS = np.random.default_rng(0).normal(size=(16, 6)) / 4


def transformed(x):
    theta = x.flatten(1) @ torch.from_numpy(WEIGHTS.round(4)).to(x)
    return fn.grid_sample(x, fn.affine_grid(theta.reshape(-1, 2, 3), list(x.shape), False), "bilinear", "zeros", False)


def grid_sample(mode="linear", padding="zeros", corners=0):
    return {"mode": mode, "padding_mode": padding, "align_corners": corners}


CASES = [
    *(
        (
            f"{mode}-{padding}-{'corners' if corners else 'edges'}-{by}{'-3d' if volume else ''}",
            *("GridSample", grid_sample(mode, padding, corners), [X_3D, GRID_3D] if volume else [X, GRID]),
            *(sample(mode, padding, corners), {"wrt": wrt, "opset": 20} | WIDE),
        )
        for mode, padding, corners, (wrt, by), volume in itertools.product(
            ("linear", "nearest", "cubic"),
            ("zeros", "border", "reflection"),
            (0, 1),
            enumerate(("picture", "grid")),
            (False, True),
        )
        if not volume or (mode, padding, corners) in IN_3D
    ),
    (
        *("opset-16", "GridSample", {"mode": "bicubic", "padding_mode": "border"}, [X, GRID]),
        *(sample("cubic", "border"), {"opset": 16} | WIDE),
    ),
    (
        *("one-row", "GridSample", grid_sample("linear", "reflection", 1), [("N", 2, 1, 6), GRID]),
        *(sample("linear", "reflection", 1), {"opset": 20}),
    ),
    *(
        (
            f"affine-{'corners' if corners else 'edges'}-{len(size) - 1}d",
            f"""agraph (float[N,{len(size) - 1},{len(size)}] x) => (float y)
            <int64[{len(size)}] size = {{{str(size)[1:-1]}}}>
            {{n = Shape<end = 1>(x) z = Concat<axis = 0>(n, size) y = AffineGrid<align_corners = {corners}>(x, z)}}""",
            *({}, None, affine(corners, size), {"opset": 20}),
        )
        for corners in (0, 1)
        for size in ((2, 4, 5), (2, 4, 2, 3))
    ),
    # So many points that their product with the elements would be too large: they are added one by one.
    *(
        (f"many-{mode}", "GridSample", grid_sample(mode), [("N", 1, 36, 30), ("N", 36, 30, 2)], sample(mode), MANY)
        for mode in ("linear", "nearest", "cubic")
    ),
    # A spatial transformer: the picture is turned by an angle that is computed from it.
    (
        "transformer",
        f"""agraph (float[N,1,4,4] x) => (float y) <int64[2] flat = {{-1, 16}}, int64[3] form = {{-1, 2, 3}},
            float[16,6] w = {{{",".join(f"{v:.4f}" for v in WEIGHTS.flat)}}}, int64[3] size = {{1, 4, 4}}>
        {{f = Reshape(x, flat) a = MatMul(f, w) t = Reshape(a, form) n = Shape<end = 1>(x)
          z = Concat<axis = 0>(n, size) g = AffineGrid(t, z) y = GridSample<mode = "linear">(x, g)}}""",
        *({}, None, transformed, {"opset": 20}),
    ),
]


def test_gradient(case, check):
    check(*case)

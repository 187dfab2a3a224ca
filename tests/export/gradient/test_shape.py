import numpy as np
import pytest
import torch
import torch.nn.functional as fn
from onnx.reference import ReferenceEvaluator

X = ("N", 4, 6, 8)
HALF = {"dtype": np.float16}


def text(body, shape="N,4,6,8", result="N,A,B,C"):
    return f"agraph (float[{shape}] x) => (float[{result}] y) {{{body}}}"


def depth_to_space(b, columns):
    def function(x):
        n, c, h, w = x.shape
        shape = (n, c // b**2, b, b, h, w) if columns else (n, b, b, c // b**2, h, w)
        perm = (0, 1, 4, 2, 5, 3) if columns else (0, 3, 4, 1, 5, 2)
        return x.reshape(shape).permute(perm).reshape(n, c // b**2, h * b, w * b)

    return function


def space_to_depth(b):
    def function(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // b, w // b)

    return function


CASES = [
    ("reshape", "Reshape", {}, [X, [-1, 24, 8]], lambda x, _: x.reshape(-1, 24, 8)),
    ("reshape-windows", "Reshape", {}, [X, [-1, 2, 8]], lambda x, _: x.reshape(-1, 2, 8)),
    ("flatten", "Flatten", {}, [X], lambda x: x.flatten(1)),
    ("flatten-0", "Flatten", {"axis": 0}, [X], lambda x: x.reshape(1, -1)),
    ("flatten-last", "Flatten", {"axis": -1}, [X], lambda x: x.reshape(-1, 8)),
    ("squeeze", "Squeeze", {}, [("N", 4, 1, 1), [2, 3]], lambda x, _: x[:, :, 0, 0]),
    ("squeeze-negative", "Squeeze", {}, [("N", 4, 1), [-1]], lambda x, _: x[..., 0]),
    ("unsqueeze", "Unsqueeze", {}, [X, [1, -1]], lambda x, _: x[:, None, ..., None]),
    ("transpose", "Transpose", {"perm": [0, 2, 3, 1]}, [X], lambda x: x.permute(0, 2, 3, 1)),
    ("transpose-batch", "Transpose", {"perm": [2, 0, 3, 1]}, [X], lambda x: x.permute(2, 0, 3, 1)),
    ("transpose-default", "Transpose", {}, [X], lambda x: x.permute(3, 2, 1, 0)),
    ("concat", "Concat", {"axis": 1}, [X, ("N", 2, 6, 8)], lambda a, b: torch.cat([a, b], 1)),
    ("concat-second", "Concat", {"axis": 1}, [X, ("N", 2, 6, 8)], lambda a, b: torch.cat([a, b], 1), {"wrt": 1}),
    ("concat-negative", "Concat", {"axis": -2}, [X, X, X], lambda *x: torch.cat(x, -2), {"wrt": 2}),
    ("concat-itself", text("y = Concat<axis = 1>(x, x)"), {}, None, lambda x: torch.cat([x, x], 1)),
    ("concat-half", "Concat", {"axis": 1}, [X, X], lambda a, b: torch.cat([a, b], 1), HALF),
    ("split", text("y, b = Split<axis = 1, num_outputs = 2>(x)"), {}, None, lambda x: x[:, :2]),
    ("split-second", text("a, y = Split<axis = -1, num_outputs = 2>(x)"), {}, None, lambda x: x[..., 4:]),
    (
        *("split-uneven", text("a, b, c = Split<axis = -1, num_outputs = 3>(x) y = Mul(a, b)"), {}, None),
        lambda x: x[..., :3] * x[..., 3:6],
    ),
    (
        *("split-sizes", text("s = Constant<value_ints = [1, 3, 2]>() a, b, y = Split<axis = 2>(x, s)"), {}, None),
        lambda x: x[:, :, 4:],
    ),
    (
        *("split-all", text("a, b = Split<axis = 1, num_outputs = 2>(x) y = Mul(a, b)"), {}, None),
        lambda x: x[:, :2] * x[:, 2:],
    ),
    ("expand", "Expand", {}, [("N", 4, 1, 1), [1, 4, 3, 2]], lambda x, _: x.expand(-1, 4, 3, 2)),
    ("expand-rank", "Expand", {}, [("N", 1), [3, 1, 4]], lambda x, _: x.expand(3, -1, 4)),
    ("expand-to-itself", "Expand", {}, [X, [1, 1, 1, 1]], lambda x, _: 1 * x),
    ("tile", "Tile", {}, [X, [1, 2, 1, 3]], lambda x, _: x.repeat(1, 2, 1, 3)),
    ("tile-once", "Tile", {}, [X, [1, 1, 1, 1]], lambda x, _: 1 * x),
    ("tile-5d", "Tile", {}, [("N", 2, 3, 2, 2), [1, 2, 2, 2, 2]], lambda x, _: x.repeat(1, 2, 2, 2, 2)),
    ("depth-to-space", "DepthToSpace", {"blocksize": 2}, [("N", 12, 3, 2)], depth_to_space(2, False)),
    ("depth-to-space-3", "DepthToSpace", {"blocksize": 3, "mode": "DCR"}, [("N", 18, 3, 2)], depth_to_space(3, False)),
    ("depth-to-space-crd", "DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [("N", 12, 3, 2)], depth_to_space(2, True)),
    (
        *("pixel-shuffle", "DepthToSpace", {"blocksize": 3, "mode": "CRD"}, [("N", 18, 3, 2)]),
        lambda x: fn.pixel_shuffle(x, 3),
    ),
    ("space-to-depth", "SpaceToDepth", {"blocksize": 2}, [X], space_to_depth(2)),
]


def test_gradient(case, check):
    check(*case)


def test_concatenation_along_the_batch(harness):
    """TensorRT takes no such slice of computed ends; detectors of two stages, which need it, are not for it."""
    rows = text("z = Neg(x) y = Concat<axis = 0>(x, z, x)", result="M,A,B,C")
    harness.check(rows, {}, None, lambda x: torch.cat([x, -x, x]))


def test_repetition_of_the_batch_is_refused(refused):
    text = "agraph (float[N,4] x) => (float[M,4] y) {r = Constant<value_ints = [2, 1]>() y = Tile(x, r)}"
    assert "repetition of the batch" in refused(text)


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_space_to_depth_has_modes_from_opset_28_on(mode, harness):
    model = harness.parse(text(f'y = SpaceToDepth<blocksize = 2, mode = "{mode}">(x)'), opset=28)
    rng = np.random.default_rng(0)
    x, seed = (rng.normal(size=s).astype(np.float32) for s in ((3, 4, 6, 8), (3, 16, 3, 4)))
    got = ReferenceEvaluator(harness.differentiate(model, "x")).run(["y", "dx"], {"x": x, "seed": seed})
    function = (lambda t: fn.pixel_unshuffle(t, 2)) if mode == "CRD" else space_to_depth(2)
    y, dx = harness.torch_gradient(function, {"x": x}, "x", seed, torch.float64)
    np.testing.assert_array_equal(got[0], y)
    np.testing.assert_array_equal(got[1], dx)

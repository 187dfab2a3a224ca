"""LpPool, and what is done with the windows of a picture beside pooling."""

import numpy as np
import torch.nn.functional as fn

X = ("N", 3, 9, 8)
S2 = {"strides": [2, 2]}


def pool(kernel=(3, 3), **attributes):
    return {"kernel_shape": list(kernel), **attributes}


def norm(p, pads, dilations=1, least=0, **options):
    """The root of the sum of the powers, by unfolding: torch has no padding, no dilations and no third axis."""
    n = len(pads) // 2
    border = [q for i in reversed(range(n)) for q in (pads[i], pads[n + i])]
    size, stride = options["kernel_size"], options["stride"]
    step = dilations if isinstance(dilations, tuple) else (dilations,) * n

    def function(x):
        x = fn.pad(x.abs() ** p if p > 1 else x.abs(), border)
        for axis in range(n):
            x = x.unfold(2 + axis, (size - 1) * step[axis] + 1, stride)[..., :: step[axis]]
        return (x.sum(tuple(range(-n, 0))) + least) ** (1 / p)

    return function


def global_norm(p):
    return lambda x: (x.abs() ** p).sum((2, 3), keepdim=True) ** (1 / p)


MAX_2 = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>({})"
UNPOOL = "MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>({}, i)"


def unpooled(x, between):
    pooled, at = fn.max_pool2d(x, 2, return_indices=True)
    return fn.max_unpool2d(between(pooled), at, 2)


CASES = [
    *(
        (f"norm-{p}-{name}", "LpPool", {"p": p, **attributes}, [X], norm(p, pads, **options), {"opset": 22})
        for p in (1, 2, 3)
        for name, attributes, pads, options in (
            ("plain", pool(), (0, 0, 0, 0), {"kernel_size": 3, "stride": 1}),
            ("pads", pool(**S2, pads=[0, 2, 1, 1]), (0, 2, 1, 1), {"kernel_size": 3, "stride": 2}),
            ("same", pool(**S2, auto_pad="SAME_UPPER"), (1, 0, 1, 1), {"kernel_size": 3, "stride": 2}),
        )
    ),
    (
        *("norm-ceil", "LpPool", pool(**S2, ceil_mode=1), [X]),
        *(norm(2, (0, 0, 0, 1), kernel_size=3, stride=2), {"opset": 22}),
    ),
    (
        *("norm-dilations", "LpPool", pool(dilations=[2, 3]), [X]),
        *(norm(2, (0, 0, 0, 0), dilations=(2, 3), kernel_size=3, stride=1), {"opset": 22}),
    ),
    ("norm-1d", "LpPool", pool([3], strides=[2]), [("N", 3, 9)], norm(2, (0, 0), kernel_size=3, stride=2)),
    (
        *("norm-3d", "LpPool", pool([2, 2, 2], p=3), [("N", 2, 5, 4, 6)]),
        norm(3, (0,) * 6, kernel_size=2, stride=1),
    ),
    # Most windows hold zeros alone: torch's own is not a number there.
    (
        *("norm-of-zeros", "LpPool", pool((2, 2), **S2), [X]),
        *(norm(2, (0,) * 4, kernel_size=2, stride=2, least=1e-200), {"at": lambda x: np.where(x > 1.5, x, 0)}),
    ),
    *((f"global-norm-{p}", "GlobalLpPool", {"p": p}, [X], global_norm(p)) for p in (1, 2, 3)),
    (
        "unpool",
        f"agraph (float[N,2,6,8] x) => (float y) {{{{p, i = {MAX_2} z = Neg(p) y = {UNPOOL}}}}}".format("x", "z"),
        *({}, None, lambda x: unpooled(x, lambda p: -p)),
    ),
    (
        "columns",
        "Col2Im",
        {},
        [("N", 8, 20), np.array([5, 6]), np.array([2, 2])],
        lambda x, *_: fn.fold(x, (5, 6), 2),
    ),
    (
        *("columns-options", "Col2Im", {"dilations": [2, 1], "pads": [1, 0, 2, 1], "strides": [2, 3]}),
        *([("N", 18, 12), np.array([6, 9]), np.array([2, 3])], None),
    ),
    ("columns-1d", "Col2Im", {"strides": [2]}, [("N", 9, 4), np.array([9]), np.array([3])], None),
    (
        *("columns-3d", "Col2Im", {"pads": [1, 0, 0, 0, 0, 1]}),
        *([("N", 8, 20), np.array([2, 3, 5]), np.array([2, 2, 2])], None),
    ),
]


def test_gradient(case, check):
    check(*case)


def test_unpooling_of_windows_that_overlap_is_refused(refused):
    pool = "p, i = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)"
    unpool = "y = MaxUnpool<kernel_shape = [3, 3], strides = [2, 2]>(p, i)"
    assert "windows that overlap" in refused(f"agraph (float[N,1,7,7] x) => (float y) {{{pool} {unpool}}}")

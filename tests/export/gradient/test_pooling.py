import numpy as np
import pytest
import torch
import torch.nn.functional as fn
from hypothesis import given, settings
from hypothesis import strategies as st

X = ("N", 3, 9, 8)
HALF = {"dtype": np.float16}
TIES = {"at": np.round}


def largest(pads=(0, 0, 0, 0), **options):
    n = len(pads) // 2
    function = (fn.max_pool1d, fn.max_pool2d, fn.max_pool3d)[n - 1]
    border = [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])]
    return lambda x: function(fn.pad(x, border, value=-torch.inf), **options)


def mean(n=2, **options):
    return lambda x: (fn.avg_pool1d, fn.avg_pool2d, fn.avg_pool3d)[n - 1](x, **options)


def pool(kernel=(3, 3), **attributes):
    return {"kernel_shape": list(kernel), **attributes}


def masked(attributes, shape="N,3,9,8", pads=None):
    """A pool over -infinity, put there by a mask or by a Pad as timm's MaxPool2dSame does."""
    pad = f"p = Pad(m, pads, low) r = MaxPool<{attributes}>(p)" if pads else f"r = MaxPool<{attributes}>(m)"
    constants = "float low = {-inf}, float limit = {0.3}, float least = {-9}"
    constants += f", int64[{len(pads)}] pads = {{{','.join(map(str, pads))}}}" if pads else ""
    nodes = f"c = Greater(x, limit) m = Where(c, low, x) {pad} y = Max(r, least)"
    return f"agraph (float[{shape}] x) => (float[N] y) <{constants}> {{{nodes}}}"


def largest_of_masked(pads=(0, 0, 0, 0), **options):
    pool = largest(pads, **options)
    return lambda x: pool(x.where(x <= 0.3, -torch.inf)).clamp_min(-9)


S2 = {"strides": [2, 2]}
P1 = {"pads": [1, 1, 1, 1]}
CASES = [
    ("max", "MaxPool", pool(), [X], largest(kernel_size=3, stride=1)),
    ("max-strides", "MaxPool", pool(**S2), [X], largest(kernel_size=3, stride=2)),
    ("max-ties", "MaxPool", pool(**S2), [X], largest(kernel_size=3, stride=2), TIES),
    ("max-pads", "MaxPool", pool(**S2, **P1), [X], largest((1, 1, 1, 1), kernel_size=3, stride=2)),
    ("max-pads-ties", "MaxPool", pool(**S2, **P1), [X], largest((1, 1, 1, 1), kernel_size=3, stride=2), TIES),
    (
        *("max-of-negative", "MaxPool", pool(**S2, **P1), [X]),
        *(largest((1, 1, 1, 1), kernel_size=3, stride=2), {"at": lambda x: -np.abs(x) - 100}),
    ),
    ("max-uneven-pads", "MaxPool", pool(pads=[0, 2, 1, 1]), [X], largest((0, 2, 1, 1), kernel_size=3, stride=1)),
    ("max-ceil", "MaxPool", pool(**S2, ceil_mode=1), [X], largest(kernel_size=3, stride=2, ceil_mode=True)),
    (
        *("max-ceil-drops-a-window", "MaxPool", pool((1, 1), strides=[3, 3], ceil_mode=1), [X]),
        *(largest(kernel_size=1, stride=3, ceil_mode=True), {"opset": 22}),
    ),
    ("max-beyond-kernel", "MaxPool", pool((2, 1), strides=[4, 3]), [X], largest(kernel_size=(2, 1), stride=(4, 3))),
    ("max-dilations", "MaxPool", pool(dilations=[2, 3]), [X], largest(kernel_size=3, stride=1, dilation=(2, 3))),
    ("max-valid", "MaxPool", pool(**S2, auto_pad="VALID"), [X], largest(kernel_size=3, stride=2)),
    (
        *("max-same-upper", "MaxPool", pool(**S2, auto_pad="SAME_UPPER"), [X]),
        largest((1, 0, 1, 1), kernel_size=3, stride=2),
    ),
    (
        *("max-same-lower", "MaxPool", pool(**S2, auto_pad="SAME_LOWER"), [X]),
        largest((1, 1, 1, 0), kernel_size=3, stride=2),
    ),
    ("max-1d", "MaxPool", pool([2], strides=[2]), [("N", 3, 9)], largest((0, 0), kernel_size=2)),
    (
        *("max-3d", "MaxPool", pool([2, 2, 2], strides=[2, 2, 2], pads=[1, 0, 0, 0, 0, 0]), [("N", 2, 5, 4, 6)]),
        largest((1, 0, 0, 0, 0, 0), kernel_size=2),
    ),
    ("max-half", "MaxPool", pool(**S2, **P1), [X], largest((1, 1, 1, 1), kernel_size=3, stride=2), HALF),
    (
        "max-with-unused-indices",
        "agraph (float[N,2,4,4] x) => (float[N,2,2,2] y) {y, i = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)}",
        *({}, None, largest(kernel_size=2)),
    ),
    ("max-masked", masked("kernel_shape = [2, 2], strides = [2, 2]"), {}, None, largest_of_masked(kernel_size=2)),
    (
        *("max-masked-pads", masked("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"), {}, None),
        largest_of_masked((1, 1, 1, 1), kernel_size=3, stride=2),
    ),
    (
        *("max-masked-padded", masked("kernel_shape = [3, 3], strides = [2, 2]", pads=[0, 0, 0, 0, 0, 0, 1, 1])),
        *({}, None, largest_of_masked((0, 0, 1, 1), kernel_size=3, stride=2)),
    ),
    (
        *("max-masked-whole-border", masked("kernel_shape = [2, 2]", pads=[0, 0, 3, 2, 0, 0, 3, 4]), {}, None),
        largest_of_masked((3, 2, 3, 4), kernel_size=2, stride=1),
    ),
    (
        *("max-masked-1d", masked("kernel_shape = [4], dilations = [2], pads = [3, 1]", "N,3,9"), {}, None),
        largest_of_masked((3, 1), kernel_size=4, stride=1, dilation=2),
    ),
    (
        *("max-masked-3d", masked("kernel_shape = [2, 3, 2], strides = [1, 2, 2]", "N,2,5,5,6"), {}, None),
        largest_of_masked((0,) * 6, kernel_size=(2, 3, 2), stride=(1, 2, 2)),
    ),
    ("max-whole", "MaxPool", pool([9, 8]), [X], largest(kernel_size=(9, 8)), TIES),
    (
        "max-wide-ties",
        "MaxPool",
        pool([7, 5], pads=[3, 2, 3, 2]),
        [X],
        largest((3, 2, 3, 2), kernel_size=(7, 5), stride=1),
        TIES,
    ),
    ("max-ties-half", "MaxPool", pool(**S2, **P1), [X], largest((1, 1, 1, 1), kernel_size=3, stride=2), HALF | TIES),
    ("mean", "AveragePool", pool(), [X], mean(kernel_size=3, stride=1)),
    ("mean-valid-ceil", "AveragePool", pool(strides=[3, 2], auto_pad="VALID", ceil_mode=1), [X], None, {"opset": 19}),
    (
        *("mean-valid-ceil-counted", "AveragePool"),
        *(pool((4, 3), strides=[2, 2], auto_pad="VALID", ceil_mode=1, count_include_pad=1), [X], None, {"opset": 22}),
    ),
    (
        *("mean-same-beyond-kernel", "AveragePool", pool((1, 2), strides=[3, 3], auto_pad="SAME_UPPER"), [X], None),
        {"opset": 22},
    ),
    ("mean-strides", "AveragePool", pool((2, 2), **S2), [X], mean(kernel_size=2)),
    ("mean-rest-unseen", "AveragePool", pool((3, 3), strides=[2, 3]), [X], mean(kernel_size=3, stride=(2, 3))),
    ("mean-beyond-kernel", "AveragePool", pool((2, 1), strides=[4, 3]), [X], mean(kernel_size=(2, 1), stride=(4, 3))),
    (
        *("mean-pads", "AveragePool", pool(**S2, **P1), [X]),
        mean(kernel_size=3, stride=2, padding=1, count_include_pad=False),
    ),
    (
        *("mean-pads-counted", "AveragePool", pool(**S2, **P1, count_include_pad=1), [X]),
        mean(kernel_size=3, stride=2, padding=1),
    ),
    (
        *("mean-ceil", "AveragePool", pool(**S2, ceil_mode=1), [X]),
        mean(kernel_size=3, stride=2, ceil_mode=True),
    ),
    (
        *("mean-ceil-pads", "AveragePool", pool(**S2, **P1, ceil_mode=1), [X]),
        mean(kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    ),
    (
        *("mean-ceil-pads-counted", "AveragePool", pool(**S2, **P1, ceil_mode=1, count_include_pad=1), [X]),
        *(mean(kernel_size=3, stride=2, padding=1, ceil_mode=True), {"opset": 19}),
    ),
    (
        *("mean-ceil-drops-a-window", "AveragePool", pool((1, 1), strides=[3, 3], ceil_mode=1), [X]),
        *(mean(kernel_size=1, stride=3, ceil_mode=True), {"opset": 22}),
    ),
    ("mean-uneven-pads", "AveragePool", pool(**S2, pads=[0, 2, 1, 1]), [X], None),
    ("mean-uneven-pads-counted", "AveragePool", pool(**S2, pads=[0, 2, 1, 1], count_include_pad=1), [X], None),
    ("mean-same-upper", "AveragePool", pool(**S2, auto_pad="SAME_UPPER"), [X], None),
    ("mean-same-lower", "AveragePool", pool(**S2, auto_pad="SAME_LOWER"), [X], None),
    ("mean-same-counted", "AveragePool", pool(**S2, auto_pad="SAME_UPPER", count_include_pad=1), [X], None),
    ("mean-valid", "AveragePool", pool(**S2, auto_pad="VALID"), [X], mean(kernel_size=3, stride=2)),
    ("mean-dilations", "AveragePool", pool(dilations=[2, 3], **P1), [X], None, {"opset": 19}),
    ("mean-opset-22", "AveragePool", pool(**S2, **P1, ceil_mode=1), [X], None, {"opset": 22}),
    ("mean-1d", "AveragePool", pool([3], strides=[2]), [("N", 3, 9)], mean(1, kernel_size=3, stride=2)),
    ("mean-3d", "AveragePool", pool([2, 2, 2]), [("N", 2, 5, 4, 6)], mean(3, kernel_size=2, stride=1)),
    ("mean-half", "AveragePool", pool(**S2), [X], mean(kernel_size=3, stride=2), HALF),
    ("global-mean", "GlobalAveragePool", {}, [X], lambda x: x.mean((2, 3), keepdim=True)),
    ("global-mean-1d", "GlobalAveragePool", {}, [("N", 3, 9)], lambda x: x.mean(2, keepdim=True)),
    ("global-mean-half", "GlobalAveragePool", {}, [X], lambda x: x.mean((2, 3), keepdim=True), HALF),
    ("global-max", "GlobalMaxPool", {}, [X], lambda x: fn.adaptive_max_pool2d(x, 1)),
    ("global-max-ties", "GlobalMaxPool", {}, [X], lambda x: fn.adaptive_max_pool2d(x, 1), TIES),
    ("global-max-3d", "GlobalMaxPool", {}, [("N", 3, 4, 3, 2)], lambda x: fn.adaptive_max_pool3d(x, 1)),
    ("global-max-half", "GlobalMaxPool", {}, [X], lambda x: fn.adaptive_max_pool2d(x, 1), HALF),
]


def test_gradient(case, check):
    check(*case)


AXIS = st.fixed_dictionaries(
    {
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 5),
        "begin": st.integers(0, 3),
        "end": st.integers(0, 3),
        "size": st.integers(6, 12),
    }
)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    axes=st.lists(AXIS, min_size=2, max_size=2),
    ceil=st.booleans(),
    counted=st.booleans(),
)
def test_any_pool(check, op, axes, ceil, counted):
    # Before opset 22, shape inference counts windows that onnxruntime drops.
    # torch wants the same padding, of half a kernel at most, on both sides.
    padding = [min(a["begin"], a["kernel"] // 2) for a in axes]
    kernel, stride = [a["kernel"] for a in axes], [a["stride"] for a in axes]
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": padding * 2, "ceil_mode": int(ceil)}
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
    shape = ("N", 2, *(a["size"] for a in axes))
    if op == "MaxPool":
        check(op, attributes, [shape], lambda x: fn.max_pool2d(x, **options), {"opset": 22})
    else:
        attributes["count_include_pad"] = int(counted)
        check(op, attributes, [shape], mean(**options, count_include_pad=counted), {"opset": 22})


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(axes=st.lists(AXIS, min_size=1, max_size=2), counted=st.booleans(), ceil=st.booleans())
def test_any_uneven_average(check, axes, counted, ceil):
    pads = [min(a[side], a["kernel"] - 1) for side in ("begin", "end") for a in axes]
    attributes = {
        "kernel_shape": [a["kernel"] for a in axes],
        "strides": [a["stride"] for a in axes],
        "pads": pads,
        "ceil_mode": int(ceil),
        "count_include_pad": int(counted),
    }
    check("AveragePool", attributes, [("N", 2, *(a["size"] for a in axes))], None, {"opset": 22})


@pytest.mark.parametrize("fill", [-np.inf, np.inf, 0, 1e38])
def test_every_window_has_one_winner(fill, check, harness):
    model = check("MaxPool", pool(**S2, **P1), [X], largest((1, 1, 1, 1), kernel_size=3, stride=2))
    x = np.full((2, 3, 9, 8), fill, np.float32)
    x[:, :, 4:, 5] = -np.inf
    got = harness.run(model, {"x0": x, "seed": np.ones((2, 3, 5, 4), np.float32)})["dx"]
    assert got.sum(axis=(2, 3)).tolist() == [[20] * 3] * 2
    first = torch.from_numpy(x).requires_grad_()
    fn.max_pool2d(first, 3, 2, 1).sum().backward()
    np.testing.assert_array_equal(got, first.grad)


def test_a_large_kernel_costs_little(check, harness):
    small = check("MaxPool", pool([3, 3]), [("N", 2, 40, 50)], largest(kernel_size=3, stride=1))
    large = check("MaxPool", pool([40, 50]), [("N", 2, 40, 50)], largest(kernel_size=(40, 50)))
    assert harness.emitted(large) == harness.emitted(small)
    assert sum(tensor.ByteSize() for tensor in large.graph.initializer) < 30_000


def test_a_shape_that_is_not_onnxruntimes_is_refused(refused):
    # Inference knows nothing of what onnxruntime makes of SAME with dilations; export measures the shape.
    text = 'agraph (float[N,3,9] x) => (float y) {y = MaxPool<%s, auto_pad = "SAME_LOWER">(x)}'
    assert "windows are not where" in refused(text % "kernel_shape = [2], dilations = [3]")


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_a_pool_without_a_window_is_refused(op, refused):
    text = f"agraph (float[N,1,4] x) => (float y) {{y = {op}<kernel_shape = [5]>(x)}}"
    assert "its kernel is larger than its input, so there is no window" in refused(text)

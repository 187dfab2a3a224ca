import numpy as np
import torch
import torch.nn.functional as fn
from hypothesis import given, settings
from hypothesis import strategies as st

X = ("N", 4, 9, 8)
HALF = {"dtype": np.float16}


def cut(x, pads):
    """Pad the spatial axes by ONNX's `pads` (begin..., end...); negative ones crop."""
    n = len(pads) // 2
    return fn.pad(x, [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])])


def conv(pads=(0, 0, 0, 0), **options):
    function = (fn.conv1d, fn.conv2d, fn.conv3d)[len(pads) // 2 - 1]
    return lambda x, w, b=None: function(cut(x, pads), w, b, **options)


def transposed(pads=(0, 0, 0, 0), **options):
    function = (fn.conv_transpose1d, fn.conv_transpose2d, fn.conv_transpose3d)[len(pads) // 2 - 1]
    return lambda x, w, b=None: cut(function(x, w, b, **options), [-p for p in pads])


def computed(op, attributes, *shapes):
    """A convolution whose weights are an input, too."""
    given = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in zip("xwb", shapes, strict=False))
    options = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    return f"agraph ({given}) => (float y) {{y = {op}{f'<{options}>' if options else ''}(x, w, b)}}"


COMPUTED = {
    "": ("Conv", {}, [X, (6, 4, 3, 2), (6,)], conv()),
    "pointwise": ("Conv", {}, [X, (6, 4, 1, 1), (6,)], conv()),
    "strides": (
        *("Conv", {"strides": [2, 3], "pads": [0, 2, 1, 3], "dilations": [2, 1]}, [X, (6, 4, 3, 3), (6,)]),
        conv((0, 2, 1, 3), stride=(2, 3), dilation=(2, 1)),
    ),
    "group": ("Conv", {"group": 2, "pads": [1, 1, 1, 1]}, [X, (6, 2, 3, 3), (6,)], conv((1, 1, 1, 1), groups=2)),
    "depthwise": ("Conv", {"group": 4, "strides": [2, 2]}, [X, (8, 1, 3, 3), (8,)], conv(groups=4, stride=2)),
    "same": ("Conv", {"auto_pad": '"SAME_LOWER"'}, [X, (6, 4, 3, 4), (6,)], conv((1, 2, 1, 1))),
    "1d": ("Conv", {"strides": [2], "pads": [2, 1]}, [("N", 4, 9), (5, 4, 3), (5,)], conv((2, 1), stride=2)),
    "3d": (
        *("Conv", {"strides": [1, 2, 2], "group": 2}, [("N", 2, 4, 5, 6), (4, 1, 2, 3, 3), (4,)]),
        conv((0,) * 6, stride=(1, 2, 2), groups=2),
    ),
    "transposed": (
        *("ConvTranspose", {"strides": [2, 3], "pads": [0, 1, 2, 1], "group": 2}, [X, (4, 3, 3, 2), (6,)]),
        transposed((0, 1, 2, 1), stride=(2, 3), groups=2),
    ),
    "transposed-dilations": (
        *("ConvTranspose", {"dilations": [2, 3]}, [X, (4, 6, 3, 2), (6,)]),
        transposed(dilation=(2, 3)),
    ),
    "transposed-1d": (
        *("ConvTranspose", {"strides": [2], "output_padding": [1]}, [("N", 4, 9), (4, 3, 3), (3,)]),
        transposed((0, 0), stride=2, output_padding=1),
    ),
    "transposed-beyond": (
        # The border that output_shape adds holds the bias alone.
        *("ConvTranspose", {"strides": [2, 3], "output_shape": [17, 25]}, [X, (4, 3, 2, 2), (3,)]),
        lambda x, w, b: cut(fn.conv_transpose2d(x, w, stride=(2, 3)), (-1, 0, 0, 2)) + b[:, None, None],
    ),
}
CASES = [
    *(
        (f"computed-{name}-by-{'xwb'[wrt]}", computed(op, attributes, *shapes), {}, None, function, {"wrt": wrt})
        for name, (op, attributes, shapes, function) in COMPUTED.items()
        for wrt in ((0, 1, 2) if name in ("", "group", "transposed-beyond") else (1,))
    ),
    ("conv", "Conv", {}, [X, (6, 4, 3, 3), (6,)], conv()),
    ("kernel-shape", "Conv", {"kernel_shape": [3, 2]}, [X, (6, 4, 3, 2)], conv()),
    ("pointwise", "Conv", {}, [X, (6, 4, 1, 1)], conv()),
    ("pads", "Conv", {"pads": [1, 1, 1, 1]}, [X, (6, 4, 3, 3)], conv((1, 1, 1, 1))),
    ("uneven-pads", "Conv", {"pads": [0, 2, 1, 3]}, [X, (6, 4, 3, 4)], conv((0, 2, 1, 3))),
    ("strides", "Conv", {"strides": [2, 3]}, [X, (6, 4, 3, 3)], conv(stride=(2, 3))),
    ("stride-beyond-kernel", "Conv", {"strides": [3, 4]}, [X, (6, 4, 1, 2)], conv(stride=(3, 4))),
    ("dilations", "Conv", {"dilations": [2, 3]}, [X, (6, 4, 3, 2)], conv(dilation=(2, 3))),
    ("group", "Conv", {"group": 2}, [X, (6, 2, 3, 3), (6,)], conv(groups=2)),
    ("depthwise", "Conv", {"group": 4, "pads": [1, 1, 1, 1]}, [X, (4, 1, 3, 3)], conv((1, 1, 1, 1), groups=4)),
    (
        *("depthwise-wide", "Conv", {"group": 4, "pads": [3, 2, 3, 2], "dilations": [1, 2]}),
        *([X, (4, 1, 7, 3)], conv((3, 2, 3, 2), dilation=(1, 2), groups=4)),
    ),
    (
        *("depthwise-strides-rest", "Conv", {"group": 4, "strides": [2, 3]}),
        *([("N", 4, 8, 9), (4, 1, 3, 2)], conv(stride=(2, 3), groups=4)),
    ),
    ("group-of-blocks", "Conv", {"group": 2}, [("N", 32, 5, 6), (8, 16, 3, 2), (8,)], conv(groups=2)),
    (
        *("group-dilations", "Conv", {"group": 2, "dilations": [2, 1], "pads": [1, 2, 3, 0]}),
        *([X, (6, 2, 3, 3)], conv((1, 2, 3, 0), dilation=(2, 1), groups=2)),
    ),
    ("group-strides-rest", "Conv", {"group": 2, "strides": [2, 3]}, [X, (6, 2, 2, 1)], conv(stride=(2, 3), groups=2)),
    ("pads-beyond-kernel", "Conv", {"pads": [3, 1, 0, 2]}, [X, (6, 4, 3, 1)], conv((3, 1, 0, 2))),
    (
        *("dilations-strides", "Conv", {"dilations": [2, 1], "strides": [2, 2], "pads": [2, 1, 2, 1]}),
        *([X, (6, 4, 3, 3)], conv((2, 1, 2, 1), dilation=(2, 1), stride=2)),
    ),
    ("depth-multiplier", "Conv", {"group": 4}, [X, (8, 1, 3, 3)], conv(groups=4)),
    ("valid", "Conv", {"auto_pad": "VALID", "strides": [2, 2]}, [X, (6, 4, 3, 3)], conv(stride=2)),
    ("same-upper", "Conv", {"auto_pad": "SAME_UPPER"}, [X, (6, 4, 3, 4)], conv((1, 1, 1, 2))),
    ("same-lower", "Conv", {"auto_pad": "SAME_LOWER"}, [X, (6, 4, 3, 4)], conv((1, 2, 1, 1))),
    (
        *("same-upper-strided", "Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        *([X, (6, 4, 3, 3)], conv((1, 0, 1, 1), stride=2)),
    ),
    (
        *("same-lower-strided", "Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        *([X, (6, 4, 3, 3)], conv((1, 1, 1, 0), stride=2)),
    ),
    (
        *("same-upper-beyond-kernel", "Conv", {"auto_pad": "SAME_UPPER", "strides": [3, 3]}),
        *([X, (6, 4, 1, 1)], conv(stride=3)),
    ),
    ("conv-1d", "Conv", {"pads": [2, 1], "strides": [2]}, [("N", 4, 9), (5, 4, 3)], conv((2, 1), stride=2)),
    (
        *("conv-3d", "Conv", {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 2]}),
        *([("N", 2, 4, 5, 6), (3, 2, 2, 3, 3)], conv((1, 0, 1, 0, 1, 1), stride=(1, 2, 2))),
    ),
    (
        "conv-1d-group",
        "Conv",
        {"group": 2, "dilations": [2]},
        [("N", 4, 9), (6, 2, 3)],
        conv((0, 0), dilation=2, groups=2),
    ),
    (
        *("conv-3d-stride-of-1", "Conv", {"pads": [1, 0, 1, 0, 1, 1]}),
        *([("N", 2, 4, 5, 6), (3, 2, 2, 3, 3)], conv((1, 0, 1, 0, 1, 1))),
    ),
    (
        "weights-by-a-node",
        "agraph (float[N,2,4,5] x) => (float y) <float[2,1,1,2] w = {1,2,3,4}> {v = Neg(w) y = Conv<group=2>(x, v)}",
        *({}, None, lambda x: fn.conv2d(x, -torch.tensor([1, 2, 3, 4]).reshape(2, 1, 1, 2).to(x), groups=2)),
    ),
    ("half", "Conv", {"pads": [1, 1, 1, 1]}, [X, (6, 4, 3, 3), (6,)], conv((1, 1, 1, 1)), HALF),
    ("half-strides", "Conv", {"strides": [2, 3]}, [X, (6, 4, 3, 3)], conv(stride=(2, 3)), HALF),
    ("transposed", "ConvTranspose", {}, [X, (4, 6, 3, 3), (6,)], transposed()),
    ("transposed-strides", "ConvTranspose", {"strides": [2, 3]}, [X, (4, 6, 3, 3)], transposed(stride=(2, 3))),
    (
        *("transposed-pads", "ConvTranspose", {"strides": [2, 2], "pads": [0, 1, 2, 1]}),
        *([X, (4, 6, 3, 3)], transposed((0, 1, 2, 1), stride=2)),
    ),
    (
        *("transposed-pads-beyond-kernel", "ConvTranspose", {"strides": [1, 2], "pads": [3, 1, 4, 2]}),
        *([X, (4, 6, 3, 2)], transposed((3, 1, 4, 2), stride=(1, 2))),
    ),
    (
        *("transposed-output-padding", "ConvTranspose", {"strides": [2, 3], "output_padding": [1, 2]}),
        *([X, (4, 6, 3, 3)], transposed(stride=(2, 3), output_padding=(1, 2))),
    ),
    (
        *("transposed-both-paddings", "ConvTranspose"),
        {"strides": [2, 3], "output_padding": [1, 2], "pads": [1, 1, 1, 1]},
        *([X, (4, 6, 3, 3)], transposed(padding=1, stride=(2, 3), output_padding=(1, 2))),
    ),
    (
        *("transposed-group", "ConvTranspose", {"strides": [2, 2], "group": 2}),
        *([X, (4, 3, 2, 2), (6,)], transposed(stride=2, groups=2)),
    ),
    (
        *("transposed-dilations", "ConvTranspose", {"dilations": [2, 3], "pads": [1, 1, 1, 1]}),
        *([X, (4, 6, 3, 2)], transposed((1, 1, 1, 1), dilation=(2, 3))),
    ),
    # Full sizes are 19 and 17; what is more than wanted goes half to each side.
    (
        *("transposed-output-shape", "ConvTranspose", {"strides": [2, 2], "output_shape": [18, 14]}),
        *([X, (4, 6, 3, 3)], transposed((1, 2, 0, 1), stride=2)),
    ),
    (
        "transposed-output-shape-upper",
        *("ConvTranspose", {"strides": [2, 2], "output_shape": [18, 14], "auto_pad": "SAME_UPPER"}),
        *([X, (4, 6, 3, 3)], transposed((0, 1, 1, 2), stride=2)),
    ),
    (
        "transposed-output-shape-and-padding",
        *("ConvTranspose", {"strides": [2, 2], "output_shape": [18, 14], "output_padding": [1, 1]}),
        *([X, (4, 6, 3, 3)], transposed((1, 2, 1, 2), stride=2, output_padding=1)),
    ),
    (
        *("transposed-same-upper", "ConvTranspose", {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        *([X, (4, 6, 3, 3)], transposed((0, 0, 1, 1), stride=2)),
    ),
    (
        *("transposed-same-lower", "ConvTranspose", {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        *([X, (4, 6, 3, 3)], transposed((1, 1, 0, 0), stride=2)),
    ),
    ("transposed-1d", "ConvTranspose", {"strides": [2]}, [("N", 4, 9), (4, 3, 3)], transposed((0, 0), stride=2)),
    (
        *("transposed-3d", "ConvTranspose", {"strides": [1, 2, 2]}),
        *([("N", 2, 3, 3, 4), (2, 3, 2, 2, 3)], transposed((0,) * 6, stride=(1, 2, 2))),
    ),
    *(
        (f"transposed-shape-{i}", "ConvTranspose", {"strides": [2, 3], **more}, [X, (4, 3, 2, 2), (3,)], None)
        for i, more in enumerate(
            [
                {"output_shape": [17, 25]},  # beyond what the kernel reaches: the border holds the bias alone
                {"output_shape": [19, 24], "auto_pad": "SAME_UPPER"},
                {"output_shape": [17, 25], "auto_pad": "SAME_LOWER"},
                {"output_shape": [15, 20], "auto_pad": "SAME_UPPER"},
                {"output_shape": [16, 21], "dilations": [1, 2]},
                {"output_shape": [18, 22], "output_padding": [1, 0]},
                {"auto_pad": "VALID", "output_padding": [0, 1]},
                {"auto_pad": "SAME_UPPER"},
            ]
        )
    ),
    ("transposed-half", "ConvTranspose", {"strides": [2, 2]}, [X, (4, 6, 3, 3)], transposed(stride=2), HALF),
]


def test_gradient(case, check):
    check(*case)


def axis(**more):
    """One spatial axis: any kernel that fits, any stride, even one beyond the kernel."""
    return st.fixed_dictionaries(
        {
            "kernel": st.integers(1, 4),
            "stride": st.integers(1, 4),
            "dilation": st.integers(1, 3),
            "begin": st.integers(0, 3),
            "end": st.integers(0, 3),
            "size": st.integers(10, 14),
            **more,
        }
    )


def column(axes, key):
    return [a[key] for a in axes]


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(axes=st.lists(axis(), min_size=1, max_size=2), group=st.sampled_from([1, 2, 4]))
def test_any_convolution(check, axes, group):
    pads = column(axes, "begin") + column(axes, "end")
    stride, dilation = column(axes, "stride"), column(axes, "dilation")
    attributes = {"pads": pads, "strides": stride, "dilations": dilation, "group": group}
    inputs = [("N", 4, *column(axes, "size")), (8, 4 // group, *column(axes, "kernel"))]
    check("Conv", attributes, inputs, conv(pads, stride=stride, dilation=dilation, groups=group))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(axes=st.lists(axis(size=st.integers(5, 8), more=st.integers(0, 2)), min_size=1, max_size=2))
def test_any_transposed_convolution(check, axes):
    pads = [min(p, 1) for p in column(axes, "begin") + column(axes, "end")]
    stride, dilation = column(axes, "stride"), column(axes, "dilation")
    more = [min(a["more"], a["stride"] - 1) for a in axes]
    attributes = {"pads": pads, "strides": stride, "dilations": dilation, "output_padding": more}
    inputs = [("N", 4, *column(axes, "size")), (4, 3, *column(axes, "kernel"))]
    options = {"stride": stride, "dilation": dilation, "output_padding": more}
    check("ConvTranspose", attributes, inputs, transposed(pads, **options))


def test_is_one_node_and_its_weights(check, harness):
    strided = check("Conv", {"strides": [2, 2]}, [X, (6, 4, 3, 3)], conv(stride=2))
    assert harness.emitted(strided) == ["Reshape", "ConvTranspose"]
    dense = check("Conv", {}, [X, (6, 4, 3, 3)], conv())
    assert harness.emitted(dense) == ["Transpose", "Gather", "Gather", "Conv"]
    depthwise = check("Conv", {"group": 4}, [X, (4, 1, 1, 3)], conv(groups=4))
    assert harness.emitted(depthwise) == ["Gather", "Conv"]
    transpose = check("ConvTranspose", {"strides": [2, 2]}, [X, (4, 6, 3, 3)], transposed(stride=2))
    assert harness.emitted(transpose) == ["Reshape", "Conv"]

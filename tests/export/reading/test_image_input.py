"""Inputs of every type and order of axes, and shapes that say little, become one float32 picture."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import check, export_model, inspect_model

SIZE, CELLS = (8, 6), 24  # the last layer of the tiny classifier is half as high
rng = np.random.default_rng(0)


def edited(source, shape=None, nodes=()):
    """The model with other axes in its input's shape (None: their number is open), and nodes put before its Cast."""
    model = onnx.load(source)
    tensor = model.graph.input[0].type.tensor_type
    if nodes:
        reader = next(n for n in model.graph.node if "image" in n.input)
        reader.input[0] = nodes[-1].output[0]
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *rest])
    else:
        tensor.ClearField("shape")
        if shape is not None:
            for d in shape:
                axis = tensor.shape.dim.add()
                setattr(axis, "dim_param" if isinstance(d, str) else "dim_value", d)
    onnx.save(model, source)
    return source


NAMES = ("batch_size", "num_channels", "height", "width")
SHAPES = {
    "all_named": (NAMES, False),
    "all_named_channels_last": (("n", "h", "w", "c"), True),
    "one_image": ((1, *NAMES[1:]), False),
    "channels_open": (("N", "C", *SIZE), False),
    "channels_open_last": (("N", *SIZE, "C"), True),
    "rank_open": (None, False),
    "rank_open_channels_last": (None, True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_that_does_not_say_the_channels(name, tiny, tmp_path, run):
    shape, last = SHAPES[name]
    source = edited(tiny(channels_last=last), shape)
    if "channels_open" not in name:
        with pytest.raises(UsageError, match=r"--size H W$"):
            inspect_model(source)
    bundle = tmp_path / "t.fcam"
    manifest = export_model(source, bundle, size=SIZE, preprocessing="unit")
    assert manifest.layer.shape == (6, 4, 6)
    assert [f.what for f in check(bundle) if not f.ok] == []
    image = rng.random((1, 3, *SIZE), np.float32)
    given = run(bundle / "explain.onnx", {"image": image, "class_index": np.array([3])})
    fed = image.transpose(0, 2, 3, 1) if last else image
    assert np.allclose(given["logits"], run(source, {"image": fed})["scores"], atol=1e-5)
    weight = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["w3"]
    assert np.allclose(given["gradients"][0], weight[:, 3, None, None] / CELLS, atol=1e-6)


# Channels, whether they are last, the shape as the file has it (None: whole), and the layout that a user names.
CHANNELS = {
    "grey": (1, False, None, None),
    "grey_last": (1, True, None, None),
    "two": (2, False, None, None),
    "four_last": (4, True, None, None),
    "thirteen": (13, False, None, None),
    "thirteen_last": (13, True, None, None),
    "grey_all_named": (1, False, NAMES, None),
    "thirteen_all_named_last": (13, True, ("n", "h", "w", "c"), None),
    "four_rank_open": (4, False, None, None),
    "channels_open": (5, True, ("N", *SIZE, "C"), None),
    "as_many_as_columns": (6, False, None, "nchw"),
    "as_many_as_columns_last": (6, True, None, "nhwc"),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_any_number_of_channels(name, tiny, tmp_path, run):
    channels, last, shape, layout = CHANNELS[name]
    source = tiny(channels=channels, channels_last=last)
    source = edited(source, shape) if shape or "rank_open" in name else source
    bundle = tmp_path / "t.fcam"
    manifest = export_model(source, bundle, size=SIZE, layout=layout, preprocessing="unit")
    assert manifest.preprocessing.shape == (channels, *SIZE)
    assert manifest.source.channels_last is last
    assert [f.what for f in check(bundle) if not f.ok] == []
    image = rng.random((2, channels, *SIZE), np.float32)
    fed = image.transpose(0, 2, 3, 1) if last else image
    given = run(bundle / "explain.onnx", {"image": image, "class_index": np.array([3, 3])})
    assert np.allclose(given["logits"], run(source, {"image": fed})["scores"], atol=1e-5)


SIZES = {"[8, 6]": (8, 6), "8": (8, 8), "[8]": None, "big": None, "(" * 9999: None}


@pytest.mark.parametrize(("stated", "taken"), SIZES.items(), ids=["two", "one", "short", "word", "nested"])
def test_size_that_metadata_states_where_it_is_open(stated, taken, tiny):
    source = edited(tiny(), NAMES)
    model = onnx.load(source)
    helper.set_model_props(model, {"imgsz": stated})
    onnx.save(model, source)
    if taken is None:
        with pytest.raises(UsageError, match=r"--size H W$"):
            inspect_model(source)
    else:
        assert inspect_model(source).classifier.size == taken
        assert inspect_model(source, size=(12, 10)).classifier.size == (12, 10)


def test_axis_of_channels_where_the_first_convolution_does_not_tell_it(tiny):
    source = edited(tiny(channels=32), nodes=[node("SpaceToDepth", "image", "deep", blocksize=4)])
    model = onnx.load(source)
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, ("N", 2, 32, 24), strict=True):
        setattr(axis, "dim_param" if isinstance(size, str) else "dim_value", size)
    onnx.save(model, source)
    assert inspect_model(source).classifier.shape == (2, 32, 24)


def test_layout_that_must_be_named(tiny):
    source = edited(tiny(channels=6), ("N", 6, 6, 6))
    with pytest.raises(UsageError, match=r"input 'image' has shape \['\?', 6, 6, 6\]; say which axis .* --layout nchw"):
        inspect_model(source)
    assert inspect_model(source, layout="nchw").classifier.shape == (6, 6, 6)
    with pytest.raises(UsageError, match="no layout 'chwn'; use nchw or nhwc"):
        inspect_model(source, layout="chwn")


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def constant(name, value, dtype):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, dtype)))


# Type of the input, whether its channels are last, and what is computed in whole numbers before they become real ones.
WHOLE = {
    "int8": (np.int8, False, []),
    "int8_last": (np.int8, True, []),
    "int8_with_a_zero_point": (
        np.int8,
        True,
        [constant("s", 0.5, np.float32), constant("z", -3, np.int8), node("DequantizeLinear", "image s z", "real")],
    ),
    "uint8_last": (np.uint8, True, []),
    "int16": (np.int16, False, []),
    "uint16": (np.uint16, True, []),
    "int32_last": (np.int32, True, []),
    "int32_turned": (np.int32, False, [constant("two", 2, np.int32), node("Mul", "image two", "twice")]),
    "int64": (np.int64, False, []),
    "int64_to_bgr": (
        np.int64,
        False,
        [constant("order", [2, 1, 0], np.int64), node("Gather", "image order", "bgr", axis=1)],
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name, tiny, tmp_path):
    kind, last, nodes = WHOLE[name]
    source = tiny(input_type=helper.np_dtype_to_tensor_dtype(np.dtype(kind)), channels_last=last)
    source = edited(source, nodes=nodes) if nodes else source
    bundle = tmp_path / "t.fcam"
    manifest = export_model(source, bundle)
    assert manifest.source.type == np.dtype(kind).name
    assert manifest.preprocessing.extremes == ((-128, 127) if kind == np.int8 else (0, 255))
    assert manifest.layer.shape == (6, 4, 6)
    assert [f.what for f in check(bundle) if not f.ok] == []
    low, high = manifest.preprocessing.extremes
    images = rng.uniform(low, high, (3, 3, *SIZE)).astype(np.float32) * rng.random((3, 1, *SIZE), np.float32)
    images[0, 0, 0] = [-1000, 1000, low - 0.4, high + 0.4, 0.5, 1.5]
    ends = np.iinfo(kind)
    whole = np.clip(np.rint(images.astype(np.float64)), ends.min, ends.max).astype(kind)
    wanted = onnxruntime.InferenceSession(source).run(None, {"image": whole.transpose(0, 2, 3, 1) if last else whole})[
        0
    ]
    scale = np.abs(wanted).max()
    for graph in ("score.onnx", "explain.onnx"):
        session = onnxruntime.InferenceSession(bundle / graph)
        feeds = {"image": images, "class_index": np.array([1, 1, 1])}
        given = dict(
            zip(
                [o.name for o in session.get_outputs()],
                session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()}),
                strict=True,
            )
        )
        assert np.abs(given["logits"] - wanted).max() <= 1e-5 * scale, graph
    weight = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["w3"]
    assert np.allclose(given["gradients"], weight[:, 1, None, None] / CELLS, atol=1e-6)
    photo = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    pixels = photo.transpose(2, 0, 1)[None].astype(np.float32) + low
    activations = session.run(["activations"], {"image": pixels, "class_index": np.array([1])})[0][0]
    closed = np.maximum(np.tensordot(weight.T, activations.astype(np.float64), 1), 0)  # Grad-CAM of a linear head
    top = int(np.ptp(closed.reshape(len(closed), -1), axis=1).argmax())
    explanation = Explainer(bundle, methods=["grad_cam", "score_cam"]).explain(photo, class_index=top)
    shown = explanation.maps["grad_cam"]
    assert np.corrcoef(shown.ravel(), closed[top].repeat(2, axis=0).ravel())[0, 1] > 0.8  # it is enlarged smoothly
    assert np.ptp(explanation.maps["score_cam"]) > 0.5


def test_preprocessing_that_rounding_leaves_nothing_of(tiny, tmp_path):
    source = tiny(input_type=TensorProto.INT32)
    for preset in ("torchvision", "unit", "tf"):
        with pytest.raises(UsageError, match=r"whole numbers \(int32\).* use --preset raw$"):
            export_model(source, tmp_path / "t.fcam", preprocessing=preset)


@pytest.mark.parametrize(("preset", "cut"), [("raw", True), ("signed", False)])
def test_pixels_that_are_cut_off_are_told(preset, cut, tiny, tmp_path):
    manifest = export_model(tiny(input_type=TensorProto.INT8), tmp_path / "t.fcam", preprocessing=preset)
    assert manifest.cuts_pixels_off is cut

"""Inputs beside the picture in graphs written by hand: types, tables, defaults, and those that must be frozen."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model, inspect_model


def written(path, inputs, nodes, constants=None, optional=None, outputs=("y",)):
    """A model of nodes, given as (operator, inputs, output, attributes); its first input is the picture."""
    types = {np.float32: TensorProto.FLOAT, np.int64: TensorProto.INT64, np.bool_: TensorProto.BOOL}
    types |= {np.float16: TensorProto.FLOAT16, str: TensorProto.STRING}
    made = [helper.make_node(kind, reads.split(), [out], **more) for kind, reads, out, more in nodes]
    values = {**(constants or {}), **(optional or {})}
    graph = helper.make_graph(
        made, "several",
        [helper.make_tensor_value_info(n, types[t], shape) for n, (t, shape) in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()],
    )  # fmt: skip
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 2)], ir_version=9
        ),
        path,
    )
    return path


PICTURE = {"image": (np.float32, ["n", 3, 8, 8])}
WEIGHTS = {
    "w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32),
}
BODY = [
    ("Conv", "image w", "c", {"pads": [1] * 4}),
    ("Relu", "c", "layer", {}),
    ("ReduceMean", "layer axes", "m", {"keepdims": 0}),
    ("MatMul", "m v", "z", {}),
]
CONSTANTS = {**WEIGHTS, "axes": np.array([2, 3])}


def test_tables_of_columns(tmp_path):
    tables = {"t3": np.random.default_rng(2).random((3, 2), np.float32), "t5": np.ones((5, 2), np.float32)}
    columns = {"a0": np.array([0]), "a1": np.array([1]), "a2": np.array([2]), "one": np.array([1])}
    nodes = [
        *BODY,
        ("Slice", "codes a0 a1 one", "first", {}), ("Gather", "t3 first", "e3", {}), ("Squeeze", "e3 one", "s3", {}),
        ("Slice", "codes a1 a2 one", "second", {}), ("Gather", "t5 second", "e5", {}), ("Squeeze", "e5 one", "s5", {}),
        ("Sum", "z s3 s5", "y", {}),
    ]  # fmt: skip
    source = written(
        tmp_path / "m.onnx", {**PICTURE, "codes": (np.int64, ["n", 2])}, nodes, {**CONSTANTS, **tables, **columns}
    )
    (codes,) = export_model(source, tmp_path / "m.fcam").inputs
    assert codes.entries == (3, 5)
    drawn = codes.draw(200)
    assert drawn.max(0).tolist() == [2, 4]
    assert codes.row("2,4").tolist() == [[2, 4]]
    with pytest.raises(UsageError, match=r"'codes' chooses from a table of 3, numbered from 0, and is given 4"):
        codes.row("4,2")


@pytest.mark.parametrize("kind", [np.bool_, np.float16, np.int64])
def test_types(tmp_path, run, kind):
    nodes = [*BODY, ("Cast", "more", "f", {"to": TensorProto.FLOAT}), ("Add", "z f", "y", {})]
    source = written(tmp_path / "m.onnx", {**PICTURE, "more": (kind, ["n", 2])}, nodes, CONSTANTS)
    (more,) = export_model(source, tmp_path / "m.fcam").inputs
    assert more.dtype == kind
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    given = run(
        tmp_path / "m.fcam" / "score.onnx", {"image": np.zeros((1, 3, 8, 8), np.float32), "more": more.row("1,0")}
    )
    assert np.allclose(given["logits"], [[1, 0]])


def test_text_is_frozen(tmp_path, run):
    table = {"keys_strings": ["cat", "dog"], "values_floats": [1.0, 2.0], "default_float": 0.0, "domain": "ai.onnx.ml"}
    nodes = [*BODY, ("LabelEncoder", "animal", "n", table), ("Add", "z n", "y", {})]
    source = written(tmp_path / "m.onnx", {**PICTURE, "animal": (str, ["n", 1])}, nodes, CONSTANTS)
    with pytest.raises(UsageError, match=r"'animal' string .* cannot stay open; freeze it with --input animal=VALUE"):
        inspect_model(source)
    export_model(source, tmp_path / "frozen.fcam", inputs={"animal": "dog"})
    x = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    assert np.allclose(run(tmp_path / "frozen.fcam" / "score.onnx", x)["logits"], 2)
    assert [f.what for f in check(tmp_path / "frozen.fcam") if not f.ok] == []


def test_optional_input(tmp_path, run):
    nodes = [*BODY, ("Mul", "z scale", "y", {})]
    inputs = {**PICTURE, "scale": (np.float32, ["n", 1])}
    optional = {"scale": np.array([[2.0]], np.float32)}
    source = written(tmp_path / "m.onnx", inputs, nodes, CONSTANTS, optional)
    x = {"image": np.random.default_rng(0).random((2, 3, 8, 8), np.float32)}
    logits = {}
    for name, given in (("left", {}), ("frozen", {"inputs": {"scale": 5}}), ("kept", {"inputs": {"scale": None}})):
        manifest = export_model(source, tmp_path / f"{name}.fcam", **given)
        assert [f.what for f in check(tmp_path / f"{name}.fcam") if not f.ok] == []
        feeds = {each.tensor: np.full((2, 1), 3, np.float32) for each in manifest.inputs}
        logits[name] = run(tmp_path / f"{name}.fcam" / "score.onnx", x | feeds)["logits"]
    assert manifest.inputs[0].default_row() == [[2]]
    assert np.allclose(logits["frozen"], 2.5 * logits["left"], rtol=1e-5)
    assert np.allclose(logits["kept"], 1.5 * logits["left"], rtol=1e-5)


ADDED = ("Add", "z s", "y", {})
MUST_FREEZE = {
    "scalar": (
        [],
        [("Mul", "z more", "y", {})],
        r"'more' float32 \(\) has no axis for the batch; freeze it with",
    ),
    "rows": ([5, 2], [("ReduceSum", "more zero", "s", {"keepdims": 0}), ADDED], r"has 5 rows, not one"),
    "open": (["n", "k"], [("ReduceSum", "more one", "s", {}), ADDED], r"leaves its size open; freeze"),
    "mixes": (["m", 2], [("ReduceSum", "more zero", "s", {}), ADDED], r"must be frozen with --input more="),
    "shapes": (
        ["n", 1],
        [("Cast", "more", "i", {"to": TensorProto.INT64}), ("Reshape", "i all", "k", {}), ("Tile", "z k", "y", {})],
        r"'more' float32 \(\?, 1\) decides shapes \(node '.*', Tile\); freeze it with --input more=VALUE",
    ),
}


@pytest.mark.parametrize("case", MUST_FREEZE)
def test_input_that_must_be_frozen(tmp_path, case):
    shape, nodes, text = MUST_FREEZE[case]
    constants = {**CONSTANTS, "zero": np.array([0]), "one": np.array([1]), "all": np.array([-1])}
    source = written(tmp_path / "m.onnx", {**PICTURE, "more": (np.float32, shape)}, [*BODY, *nodes], constants)
    with pytest.raises((UsageError, ModelError), match=text):
        inspect_model(source)


def test_mask_and_sizes_of_a_detector(tmp_path, run):
    """An input of the picture's height and width follows them; one of sizes is frozen where no batch is in it."""
    inputs = {
        "image": (np.float32, ["n", 3, "h", "w"]),
        "pixel_mask": (np.int64, ["n", "h", "w"]),
        "orig_target_sizes": (np.int64, ["n", 2]),
    }
    nodes = [
        *BODY[:2],
        ("Cast", "pixel_mask", "seen", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", "seen one", "mask", {}),
        ("Mul", "layer mask", "kept", {}),
        ("ReduceMean", "kept axes", "m", {"keepdims": 0}),
        ("MatMul", "m v", "z", {}),
        ("Cast", "orig_target_sizes", "sizes", {"to": TensorProto.FLOAT}),
        ("Mul", "z sizes", "y", {}),
    ]
    source = written(tmp_path / "m.onnx", inputs, nodes, {**CONSTANTS, "one": np.array([1])})
    manifest = export_model(source, tmp_path / "m.fcam", size=(8, 8))
    assert [each.words for each in manifest.inputs] == ["'pixel_mask' int64 (8, 8)", "'orig_target_sizes' int64 (2)"]
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    frozen = export_model(source, tmp_path / "f.fcam", size=(8, 8), inputs={"orig_target_sizes": "480,640"})
    assert [each.name for each in frozen.inputs] == ["pixel_mask"]
    x = {"image": np.random.default_rng(0).random((2, 3, 8, 8), np.float32), "pixel_mask": np.ones((2, 8, 8), np.int64)}
    sizes = {"orig_target_sizes": np.tile([480, 640], (2, 1))}
    one = run(tmp_path / "f.fcam" / "score.onnx", x)["logits"]
    two = run(tmp_path / "m.fcam" / "score.onnx", x | sizes)["logits"]
    assert np.allclose(one, two, rtol=1e-5)
    with pytest.raises(UsageError, match=r"--size any takes models of one input, .* 'pixel_mask' int64"):
        export_model(source, tmp_path / "a.fcam", size="any")


def test_pictures_side_by_side_in_one_batch(tmp_path):
    """Two pictures that are joined along the batch: no layer has a row for each explained one."""
    inputs = {"image": (np.float32, ["n", 3, 8, 8]), "other": (np.float32, ["n", 3, 8, 8])}
    nodes = [("Concat", "image other", "both", {"axis": 0}), ("Conv", "both w", "c", {"pads": [1] * 4}), *BODY[1:3]]
    nodes += [("MatMul", "m v", "z", {}), ("Split", "z", "y", {"axis": 0, "num_outputs": 2})]
    source = written(tmp_path / "m.onnx", inputs, nodes, CONSTANTS)
    model = onnx.load(source)
    model.graph.node[-1].output.append("rest")
    model.graph.node.append(helper.make_node("Sub", ["y", "rest"], ["d"]))
    model.graph.output[0].name = "d"
    onnx.save(model, source)
    with pytest.raises((ModelError, UsageError), match="no layer can explain the model"):
        export_model(source, tmp_path / "m.fcam", image="image")


def test_no_input_is_a_picture(tmp_path):
    inputs = {"a": (np.float32, ["n", 4]), "b": (np.float32, ["n", 4])}
    source = written(tmp_path / "m.onnx", inputs, [("Add", "a b", "y", {})])
    with pytest.raises(ModelError, match=r"2 inputs \('a' float32 \(\?, 4\), 'b' .*\), of which none is a picture"):
        inspect_model(source)

"""Sources in float64, in bfloat16 and in onnxruntime's own format are read as float32 models in ONNX."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fusioncam.errors import ModelError
from fusioncam.export import check, export_model, inspect_model
from fusioncam.export.reading.file import read_model

TYPES = {"float64": TensorProto.DOUBLE, "bfloat16": TensorProto.BFLOAT16}


@pytest.fixture
def gradients(run):
    """Logits and gradients of a bundle for a picture."""

    def gradients(bundle):
        image = np.random.default_rng(0).random((1, 3, 8, 6), np.float32)
        given = run(bundle / "explain.onnx", {"image": image, "class_index": np.array([2])})
        return given["logits"], given["gradients"]

    return gradients


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("of_input", [None, TensorProto.FLOAT])
def test_rare_types_are_read_as_float32(name, of_input, tiny, tmp_path, gradients):
    exact, rare = tiny("exact.onnx"), tiny("rare.onnx", dtype=TYPES[name], input_type=of_input)
    bundles = tmp_path / "exact.fcam", tmp_path / "rare.fcam"
    layers = [export_model(s, b, preprocessing="unit").layer for s, b in zip((exact, rare), bundles, strict=True)]
    assert layers[0] == layers[1]
    assert [f for f in check(bundles[1]) if not f.ok] == []
    for wanted, found in zip(*map(gradients, bundles), strict=True):
        digits = 1e-6 if name == "float64" else 2e-2
        assert np.abs(wanted - found).max() <= digits * np.abs(wanted).max()


def test_constants_casts_and_branches_are_read_so_too(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 18]> m (float[N, 3, 8, 6] image) => (double[N, 3, 8, 6] y) {
        wide = Cast <to = 11> (image)
        scale = Constant <value = double {1e300}> ()
        most = Constant <value = double[3, 1, 1] {1, 2, 3}> ()
        yes = Constant <value = bool {1}> ()
        y = If (yes) <then_branch = a () => (double[N, 3, 8, 6] p) { p = Mul (wide, most) },
                      else_branch = b () => (double[N, 3, 8, 6] q) { q = Mul (wide, scale) }>
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.node.append(helper.make_node("Conv", ["wide", "w"], ["unused"]))  # which has no kernel for float64
    weights = np.zeros((1, 3, 1, 1))
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "m.onnx")
    read = read_model(tmp_path / "m.onnx")
    kinds = {t.data_type for t in read.graph.initializer}
    assert kinds == {TensorProto.FLOAT}
    assert read.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    image = np.random.default_rng(0).random((2, 3, 8, 6), np.float32)
    session = onnxruntime.InferenceSession(read.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["y"], {"image": image})[0], image * np.float32([[[1]], [[2]], [[3]]]))


def saved_ort(source, path):
    """Let onnxruntime write a model in its own format, after its optimizations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return path


@pytest.mark.parametrize("name", ["m.ort", "m.bin"])
def test_the_format_of_onnxruntime(name, tiny, tmp_path, gradients):
    exact = tiny()
    bundles = tmp_path / "exact.fcam", tmp_path / "ort.fcam"
    sources = exact, saved_ort(exact, tmp_path / name)
    layers = [export_model(s, b, preprocessing="unit").layer for s, b in zip(sources, bundles, strict=True)]
    assert layers[0].shape == layers[1].shape
    assert [f for f in check(bundles[1]) if not f.ok] == []
    for wanted, found in zip(*map(gradients, bundles), strict=True):
        assert np.abs(wanted - found).max() <= 1e-5 * np.abs(wanted).max()


def test_a_damaged_file_of_that_format_is_named(tmp_path):
    (tmp_path / "m.ort").write_bytes(b"\x18\0\0\0ORTM" + bytes(64))
    with pytest.raises(
        ModelError, match=r"own format \(\.ort\), and .*; give the \.onnx file it was made from"
    ) as told:
        inspect_model(tmp_path / "m.ort")
    assert "\n" not in str(told.value)

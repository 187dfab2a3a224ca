"""Every graph of a bundle, as a whole, is such as TensorRT's parser takes, by its own table of operators."""

import importlib.util
import os
from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from fusioncam.export import export_model
from fusioncam.export.random_pictures import pictures
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH, read_bundle

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("FUSIONCAM_ASSETS", ROOT.parent / "shared" / "assets")) / "models"
NAMES = (
    "cifar10_resnet8_32_softmax",
    "mobilenetv1_050_160_logits",
    "mobilenetv2_100_224_logits",
    "squeezenet11_fp16_orig",
    "squeezenet11_fp32_opset7_softmax",
    "vww_person_mobilenetv1_025_96_logits",
)
# onnxruntime's quantiser writes these by default, and TensorRT refuses them. A bundle keeps them:
INT32_BIAS = "is INT32"  # onnxruntime folds it for TensorRT by itself, and needs it for its own 8-bit convolutions
UINT8 = "is UINT8"  # another type would be another rounding
ZERO_POINTS = {"`y_zero_point` must be 0", "`x_zero_point` must be zero"}  # as would another zero be


@pytest.fixture(scope="module")
def refused():
    """What TensorRT would refuse in any graph of a bundle."""
    path = Path(__file__).parent / "gradient" / "tensorrt.py"
    spec = importlib.util.spec_from_file_location("export_tests_tensorrt", path)
    tensorrt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tensorrt)
    if not tensorrt.TABLE.is_file():
        pytest.skip("TensorRT's table of operators is not at hand")
    return lambda bundle: [
        f"{graph}: {line}"
        for graph in (EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH)
        for line in tensorrt.trt_violations(onnx.load(bundle / graph))
    ]


def test_architecture(architecture, export_of, middle_of, refused):
    for exported in (export_of(architecture), middle_of(architecture)):
        assert refused(exported.bundle) == []


def test_architecture_in_float16(architecture, export_of, refused, tmp_path):
    export_model(export_of(architecture).source, tmp_path / "scores.fcam", precision="fp16")
    assert refused(tmp_path / "scores.fcam") == []
    # Its score graph is a float16 model like any other.
    manifest = export_model(tmp_path / "scores.fcam" / SCORE_GRAPH, tmp_path / "all.fcam")
    assert manifest.precision == "float16"
    assert refused(tmp_path / "all.fcam") == []


@pytest.mark.parametrize("precision", [None, "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_shared_model(name, precision, refused, tmp_path):
    source = MODELS / f"{name}.onnx"
    if not source.is_file():
        pytest.skip(f"{source.name} is not at hand")
    export_model(source, tmp_path / "model.fcam", precision=precision)
    assert refused(tmp_path / "model.fcam") == []


class Pictures(CalibrationDataReader):
    """Patchwork, one picture at a time."""

    def __init__(self, bundle):
        self.left = list(pictures(read_bundle(bundle), 4))

    def get_next(self):
        return {"image": self.left.pop()[None]} if self.left else None


@pytest.mark.parametrize(
    ("kind", "symmetric", "known"),
    [
        (QuantType.QInt8, True, {INT32_BIAS}),
        (QuantType.QInt8, False, {INT32_BIAS, *ZERO_POINTS}),
        (QuantType.QUInt8, False, {INT32_BIAS, UINT8, *ZERO_POINTS}),
    ],
)
def test_quantised(kind, symmetric, known, tiny, refused, tmp_path):
    source = tiny()
    export_model(source, tmp_path / "float.fcam")
    quantize_static(
        source,
        tmp_path / "quantised.onnx",
        Pictures(tmp_path / "float.fcam"),
        activation_type=kind,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )
    export_model(tmp_path / "quantised.onnx", tmp_path / "quantised.fcam")
    lines = refused(tmp_path / "quantised.fcam")
    assert {k for k in known if any(line.endswith(k) for line in lines)} == known
    assert [line for line in lines if not line.endswith(tuple(known))] == []
    assert all(" DequantizeLinear " in line or " QuantizeLinear " in line for line in lines)

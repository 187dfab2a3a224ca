"""TensorRT takes every graph of real models: its builder makes engines of them, and the table of operators agrees."""

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from fusioncam.export import assembly, export_model
from fusioncam.export.random_pictures import pictures
from fusioncam.manifest import (
    CHUNK_GRAPH,
    EXPLAIN_GRAPH,
    FUSE_GRAPH,
    HEAD_GRAPH,
    SCORE_GRAPH,
    SINGLE_GRAPH,
    read_bundle,
)

NAMES = (
    "cifar10_resnet8_32_softmax",
    "mobilenetv1_050_160_logits",
    "mobilenetv2_100_224_logits",
    "squeezenet11_fp16_orig",
    "squeezenet11_fp32_opset7_softmax",
    "vww_person_mobilenetv1_025_96_logits",
)
# What another precision of the scores changes, with the single graph and that without a loop.
WITH_SCORES = (SCORE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH)
# Parsed only, in fp16 and int8, to save two minutes; `benchmarks/engines.py` builds them, too.
SLOW = {(name, graph) for name in NAMES if "v2" in name or "squeeze" in name for graph in (FUSE_GRAPH, SINGLE_GRAPH)}
# onnxruntime's quantiser writes these by default, and TensorRT refuses them. The bundle of such a model keeps them:
INT32_BIAS = "is INT32"  # onnxruntime folds it for TensorRT by itself, and needs it for its own 8-bit convolutions
UINT8 = "is UINT8"  # another type would be another rounding
ZERO_POINTS = {"`y_zero_point` must be 0", "`x_zero_point` must be zero"}  # as would another zero be


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the comparisons of a new bundle: they take minutes, and no engine depends on them."""
    monkeypatch.setattr(assembly, "compare_logits", lambda folder, manifest, source: [])
    monkeypatch.setattr(assembly, "_with_drift", lambda folder, draft, manifest, options: manifest)


def few(prep):
    """Noise to calibrate on."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, *prep.size)).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize("precision", [None, "fp16", "int8"])
@pytest.mark.parametrize("name", NAMES)
def test_shared_model(name, precision, shared_assets, refused, unchecked, tmp_path):
    source = shared_assets / "models" / f"{name}.onnx"
    int8 = {"calibrate": few, "symmetric": True} if precision == "int8" else {}
    if int8 and "fp16" in name:
        pytest.skip("only a float32 model can be brought to int8")
    export_model(source, tmp_path / "model.fcam", precision=precision, single=True, unrolled=8, **int8)
    graphs = WITH_SCORES if precision else (EXPLAIN_GRAPH, HEAD_GRAPH, *WITH_SCORES)
    parsed = {graph for graph in WITH_SCORES if precision and (name, graph) in SLOW}
    assert refused(tmp_path / "model.fcam", graphs, parsed) == []


def test_int8_that_is_not_symmetric_is_refused(tiny, refused, unchecked, tmp_path):
    export_model(tiny(), tmp_path / "model.fcam", precision="int8", calibrate=few)
    (line,) = refused(tmp_path / "model.fcam")
    assert line.startswith(f"{SCORE_GRAPH}: parser: QuantizeLinear image_QuantizeLinear: ")
    assert "Non-zero zero point is not supported" in line


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
def test_quantised(kind, symmetric, known, tiny, refused, table, tmp_path):
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
    graphs = (EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH)
    lines = refused(tmp_path / "quantised.fcam", graphs)
    assert [line.partition(": parser: DequantizeLinear b3_DequantizeLinear: ")[0] for line in lines] == [*graphs]
    assert all("input has type Int32" in line for line in lines)  # the first that the parser comes upon
    if table is None:
        pytest.skip("the rest is told by TensorRT's table of operators, which is not at hand")
    hints = [h for graph in graphs for h in table.trt_violations(onnx.load(tmp_path / "quantised.fcam" / graph))]
    assert {k for k in known if any(hint.endswith(k) for hint in hints)} == known
    assert [hint for hint in hints if not hint.endswith(tuple(known))] == []
    assert all(hint.startswith(("DequantizeLinear ", "QuantizeLinear ")) for hint in hints)

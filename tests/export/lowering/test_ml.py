"""Operators of ai.onnx.ml behind a network become ONNX's own: the same numbers, by operators with a gradient."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from fusioncam.export.gradient import path, unsupported
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import measure

ROW = "[0.5, -1.0, 2.0, 1.5]"
WEIGHTS = "coefficients = [1.0, -2.0, 0.5, 0.3, 0.2, 0.1, -1.0, 2.0], intercepts = [0.1, -0.2]"
ONE = f"coefficients = {ROW}, intercepts = [0.1]"

CASES = {
    "scaler": f"y = ai.onnx.ml.Scaler <offset = {ROW}, scale = {ROW}> (f)",
    **{norm: f'y = ai.onnx.ml.Normalizer <norm = "{norm}"> (f)' for norm in ("MAX", "L1", "L2")},
    "regressor": f"y = ai.onnx.ml.LinearRegressor <{WEIGHTS}, targets = 2> (f)",
    "regressor-logistic": f'y = ai.onnx.ml.LinearRegressor <{WEIGHTS}, targets = 2, post_transform = "LOGISTIC"> (f)',
    "classifier": f"label, y = ai.onnx.ml.LinearClassifier <{WEIGHTS}, classlabels_ints = [3, 9]> (f)",
    "classifier-softmax": (
        f'label, y = ai.onnx.ml.LinearClassifier <{WEIGHTS}, classlabels_ints = [9, 3], post_transform = "SOFTMAX"> (f)'
    ),
    "imputer": f"y = ai.onnx.ml.Imputer <imputed_value_floats = {ROW}, replaced_value_float = 0.0> (f)",
    "extractor": "y = ai.onnx.ml.ArrayFeatureExtractor (f, places)",
    "vectorizer": "y = ai.onnx.ml.FeatureVectorizer <inputdimensions = [4, 4]> (f, f)",
}
# What has no gradient that is of use: it stays, and is refused by name where a layer needs it.
LEFT = {
    "one-row-for-two-classes": f"label, y = ai.onnx.ml.LinearClassifier <{ONE}, classlabels_ints = [0, 1]> (f)",
    # onnxruntime 1.31 leaves a single target as it is.
    "one-target": f'y = ai.onnx.ml.LinearRegressor <{ONE}, post_transform = "LOGISTIC"> (f)',
    "probit": f'y = ai.onnx.ml.LinearRegressor <{ONE}, post_transform = "PROBIT"> (f)',
}


def both(nodes, tmp_path):
    """The source and what is loaded of it; `label` is an output where the nodes make one."""
    label = "int64[N] label, " if nodes.startswith("label") else ""
    text = f"""<ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
    m (float[N,4] x) => ({label}float[N,M] y) <int64[3] places = {{2, 0, 2}}> {{f = Neg (x) {nodes}}}"""
    source = onnx.parser.parse_model(text)
    onnx.save(source, tmp_path / "model.onnx")
    return source, load_converted(tmp_path / "model.onnx")[0]


def outputs(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )


@pytest.mark.parametrize("case", [*CASES, "binarizer", "strings"])
def test_as_the_operator(case, tmp_path):
    nodes = CASES.get(case, "y = ai.onnx.ml.Binarizer <threshold = 0.2> (f)")
    if case == "strings":
        nodes = CASES["classifier"].replace("ints = [3, 9]", 'strings = ["a", "b"]').replace("label,", "unused,")
    source, model = both(nodes, tmp_path)
    assert not any(node.domain for node in model.graph)
    x = np.random.default_rng(0).normal(size=(3, 4)).round(1).astype(np.float32)
    x[1], x[2, 2] = 0, 0
    for expected, got in zip(outputs(source, x), outputs(ir.to_proto(model), x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    measure(model)
    way = path(model.graph.inputs[0], model.graph.outputs[-1])
    assert unsupported(way) == []
    assert bool(way) == (case != "binarizer")


@pytest.mark.parametrize("case", LEFT)
def test_what_stays(case, tmp_path):
    _, model = both(LEFT[case], tmp_path)
    assert any(node.domain == "ai.onnx.ml" for node in model.graph)

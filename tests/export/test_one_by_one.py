"""A model that decides something once for a whole batch is explained picture by picture."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import check, export_model, single_graph, unrolled_graphs
from fusioncam.export.triton import write_repository
from fusioncam.manifest import HEAD_GRAPH

# Bright pictures are darkened: the mean of a whole batch decides.
DECIDED = {
    "if": """
        mean = ReduceMean <keepdims=0> (image)
        bright = Greater (mean, limit)
        x = If (bright) <
            then_branch = t () => (darker) { darker = Mul (image, half) },
            else_branch = e () => (same) { same = Identity (image) }
        >
    """,
    "loop": """
        mean = ReduceMean <keepdims=0> (image)
        bright = Greater (mean, limit)
        turns = Cast <to=7> (bright)
        x = Loop (turns, , image) <
            body = b (int64 i, bool on, float[N, 3, 12, 10] old) => (again, new) {
                again = Identity (on)
                new = Mul (old, half)
            }
        >
    """,
}


def model(decided):
    text = f"""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[N, 3, 12, 10] image) => (float[N, 4] scores) {{
            {decided}
            c = Conv <kernel_shape=[3, 3], strides=[2, 2]> (x, w, b)
            layer = Relu (c)
            pooled = GlobalAveragePool (layer)
            flat = Flatten (pooled)
            scores = MatMul (flat, v)
        }}
    """
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(size=(6, 3, 3, 3)),
        "b": rng.normal(size=6),
        "v": rng.normal(size=(6, 4)),
        "half": np.float32(0.5),
        "limit": np.float32(0.3),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items())
    return proto


@pytest.mark.parametrize("name", DECIDED)
def test_scores_are_those_of_each_picture_alone(name, tmp_path):
    source, bundle = tmp_path / "m.onnx", tmp_path / "m.fcam"
    onnx.save(model(DECIDED[name]), source)
    manifest = export_model(source, bundle, preprocessing="unit")
    assert manifest.one_by_one
    assert all(f.ok for f in check(bundle))
    explainer = Explainer(bundle, methods=("score_cam",), chunk=8)
    assert explainer.chunk == 1
    rng = np.random.default_rng(0)
    pictures = [rng.random((3, 12, 10), np.float32) * scale for scale in (0.2, 1.0)]
    alone = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    together = explainer.explain_batch(pictures)
    for picture, found in zip(pictures, together, strict=True):
        (wanted,) = alone.run(None, {"image": picture[None]})
        np.testing.assert_allclose(found.logits, wanted[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.maps["score_cam"], explainer.explain(picture).maps["score_cam"])


def test_forms_that_fill_batches_are_refused(tmp_path):
    source, bundle = tmp_path / "m.onnx", tmp_path / "m.fcam"
    onnx.save(model(DECIDED["if"]), source)
    with pytest.raises(UsageError, match="decides once for a whole batch; leave out --single and --unrolled"):
        export_model(source, bundle, preprocessing="unit", single=True)
    export_model(source, bundle, preprocessing="unit")
    assert not (bundle / HEAD_GRAPH).exists()
    for make in (single_graph, lambda folder: unrolled_graphs(folder, 4)):
        with pytest.raises(UsageError, match="decides once for a whole batch"):
            make(bundle)
    with pytest.raises(UsageError, match="once for a whole batch"):
        write_repository(bundle, tmp_path / "repository", ("fusion_cam",))


def test_without_such_an_operator_chunks_are_filled(tmp_path):
    onnx.save(model("x = Identity (image)"), tmp_path / "m.onnx")
    assert not export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", preprocessing="unit").one_by_one
    assert Explainer(tmp_path / "m.fcam", chunk=8).chunk == 8

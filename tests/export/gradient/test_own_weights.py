"""The gradient reads weights of its own in a session, however the file shares them: QNN's provider mixes readers up."""

import onnx
import onnxruntime
import pytest

WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Einsum": 1}
X = ("N", 4, 6, 6)
CASES = [
    ("conv", "Conv", {}, [X, (4, 4, 3, 3)]),
    ("conv-strides", "Conv", {"strides": [2, 2]}, [X, (4, 4, 3, 3)]),
    ("depthwise-pointwise", "Conv", {"group": 4}, [X, (4, 1, 1, 1)]),
    ("group", "Conv", {"group": 2}, [X, (4, 2, 3, 3)]),
    ("transposed", "ConvTranspose", {}, [X, (4, 4, 3, 3)]),
    ("gemm", "Gemm", {}, [("N", 5), (5, 5)]),
    ("gemm-transposed", "Gemm", {"transB": 1}, [("N", 5), (5, 5)]),
    ("matmul", "MatMul", {}, [("N", 3, 5), (5, 5)]),
    ("einsum", "Einsum", {"equation": "nij,jk->nik"}, [("N", 3, 5), (5, 5)]),
]


@pytest.mark.parametrize(("op", "attributes", "inputs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_reads_weights_of_its_own(op, attributes, inputs, harness, tmp_path):
    model = harness.differentiate(harness.model_of(op, attributes, inputs), "x0")
    assert len([i for i in model.graph.initializer if len(i.dims) > 1]) == 1  # in the file there is one copy
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    opened = onnx.load(tmp_path / "opened.onnx").graph
    known = {i.name for i in opened.initializer}
    readers = [n.input[WEIGHTS[n.op_type]] for n in opened.node if n.op_type in WEIGHTS]
    assert len(readers) == 2
    assert len(known.intersection(readers)) == 2

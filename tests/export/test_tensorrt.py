"""The nodes that are this project's own are such as TensorRT's parser takes, in every test network."""

import importlib.util
from pathlib import Path

import onnx
import pytest


@pytest.fixture(scope="module")
def violations():
    path = Path(__file__).parent / "gradient" / "tensorrt.py"
    spec = importlib.util.spec_from_file_location("export_tests_tensorrt", path)
    tensorrt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tensorrt)
    if not tensorrt.TABLE.is_file():
        pytest.skip("TensorRT's table of operators is not at hand")
    return tensorrt.trt_violations


@pytest.mark.parametrize("graph", ["explain.onnx", "score.onnx"])
def test_own_nodes(architecture, graph, export_of, middle_of, violations):
    for exported in (export_of(architecture), middle_of(architecture)):
        model = onnx.load(exported.bundle / graph)
        for prefix in ("fusioncam/", "input/", "output/", "batch/"):
            assert violations(model, prefix) == []

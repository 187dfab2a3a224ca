"""All forms are such as TensorRT's parser takes, by its own table of operators."""

import importlib.util
from pathlib import Path

import onnx
import pytest

from fusioncam.export import export_model, single_graph, unrolled_graphs


@pytest.fixture(scope="module")
def tensorrt():
    """The module that holds a model against TensorRT's table."""
    path = Path(__file__).parents[1] / "gradient" / "tensorrt.py"
    spec = importlib.util.spec_from_file_location("export_tests_tensorrt", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.TABLE.is_file():
        pytest.skip("TensorRT's table of operators is not at hand")
    return module


@pytest.mark.parametrize("precision", [None, "fp16"])
@pytest.mark.parametrize("ending", [None, "Sigmoid"])
def test_tensorrt_takes_it(ending, precision, make_tiny, tensorrt, tmp_path):
    source = make_tiny(ending=ending).bundle.with_suffix(".onnx")
    export_model(source, tmp_path / "t.fcam", layer="layer", precision=precision)
    bundle = tmp_path / "t.fcam"
    assert tensorrt.trt_violations(onnx.load_from_string(single_graph(bundle))) == []
    for data in unrolled_graphs(bundle, 8).values():
        model = onnx.load_from_string(data)
        assert tensorrt.trt_violations(model) == []
        assert onnx.TensorProto.DOUBLE not in {t.data_type for t in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        assert all(v.type.tensor_type.HasField("shape") for v in inferred.value_info)


@pytest.mark.parametrize("name", ["mobilenetv2_100_224_logits", "squeezenet11_fp16_orig"])
def test_tensorrt_takes_shared_models(name, shared_assets, tensorrt, tmp_path):
    export_model(shared_assets / "models" / f"{name}.onnx", tmp_path / "t.fcam")
    for data in unrolled_graphs(tmp_path / "t.fcam", 16).values():
        assert tensorrt.trt_violations(onnx.load_from_string(data)) == []

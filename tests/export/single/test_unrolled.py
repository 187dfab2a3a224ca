"""All forms are such as TensorRT takes: its builder makes engines of them, and they hold no float64."""

import onnx
import pytest

from fusioncam.export import export_model
from fusioncam.manifest import CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH


@pytest.mark.parametrize("precision", [None, "fp16"])
@pytest.mark.parametrize("ending", [None, "Sigmoid"])
def test_tensorrt_takes_it(ending, precision, make_tiny, refused, tmp_path):
    source, bundle = make_tiny(ending=ending).bundle.with_suffix(".onnx"), tmp_path / "t.fcam"
    export_model(source, bundle, layer="layer", precision=precision, single=True, unrolled=8)
    assert refused(bundle, (CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH)) == []
    for graph in (CHUNK_GRAPH, FUSE_GRAPH):
        model = onnx.load(bundle / graph)
        assert onnx.TensorProto.DOUBLE not in {t.data_type for t in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        assert all(v.type.tensor_type.HasField("shape") for v in inferred.value_info)

"""The single graph of a quantised source is one that onnxruntime loads as any program loads it: with optimizations."""

import subprocess
import sys

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fusioncam import Explainer
from fusioncam.export import export_model, single_graph
from fusioncam.manifest import read_bundle

# In a process of its own: onnxruntime aborts where it fails.
RUN = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {"image": np.load(sys.argv[2]), "class_index": np.array([-1])}
np.save(sys.argv[3], session.run(["fusion_cam"], feeds)[0])
"""


class Pictures(CalibrationDataReader):
    def __init__(self, pictures):
        self.left = list(pictures)

    def get_next(self):
        return {"image": self.left.pop()[None]} if self.left else None


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16])
def test_it_loads_and_gives_the_same_map(kind, make_tiny, pictures, farthest, single_of, tmp_path):
    source = make_tiny().bundle.parent / "tiny.onnx"
    quantised, bundle = tmp_path / "quantised.onnx", tmp_path / "q.fcam"
    weights = QuantType.QInt8 if kind != QuantType.QUInt16 else QuantType.QInt16
    reader = Pictures(pictures)
    quantize_static(source, quantised, reader, QuantFormat.QDQ, activation_type=kind, weight_type=weights)
    export_model(quantised, bundle, preprocessing=read_bundle(source.with_suffix(".fcam")).preprocessing.model_dump())
    (tmp_path / "single.onnx").write_bytes(single_graph(bundle))
    np.save(tmp_path / "x.npy", pictures[0][None])
    files = [str(tmp_path / name) for name in ("single.onnx", "x.npy", "map.npy")]
    done = subprocess.run([sys.executable, "-c", RUN, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    explanation = Explainer(bundle).explain(pictures[0])
    assert np.abs(np.load(tmp_path / "map.npy")[0] - explanation.maps["fusion_cam"]).max() <= 1e-4
    assert farthest(single_of(bundle)(pictures[0]), explanation) <= 1e-4

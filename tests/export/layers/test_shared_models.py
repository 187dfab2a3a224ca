"""Real networks with real weights, where they are at hand: the layer that is picked, and `check`."""

import os
from pathlib import Path

import pytest

from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize

ROOT = Path(__file__).resolve().parents[3]
MODELS = Path(os.environ.get("FUSIONCAM_ASSETS", ROOT.parent / "shared" / "assets")) / "models"
EXPECTED = {
    "squeezenet11_fp32_opset7_softmax": ((512, 13, 13), 1000, "softmax", "float32", "Concat"),
    "squeezenet11_fp16_orig": ((512, 13, 13), 1000, "softmax", "float16", "Concat"),
    "mobilenetv2_100_224_logits": ((1280, 7, 7), 1001, "logits", "float32", "Clip"),
    "mobilenetv1_050_160_logits": ((512, 5, 5), 1001, "logits", "float32", "Clip"),
    "vww_person_mobilenetv1_025_96_logits": ((256, 3, 3), 2, "logits", "float32", "Relu"),
    "cifar10_resnet8_32_softmax": ((64, 8, 8), 10, "softmax", "float32", "Relu"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_shared_model(name, tmp_path):
    source = MODELS / f"{name}.onnx"
    if not source.is_file():
        pytest.skip(f"{source.name} is not at hand")
    manifest = export_model(source, tmp_path / "model.fcam")
    shape, classes, ending, precision, made_of = EXPECTED[name]
    assert (manifest.layer.shape, manifest.classes) == (shape, classes)
    assert (manifest.ending, manifest.precision) == (ending, precision)
    made_by = canonicalize(source).model.graph
    (kind,) = [n.op_type for n in made_by for o in n.outputs if o.name == manifest.layer.name]
    assert kind == made_of
    assert [f for f in check(tmp_path / "model.fcam") if not f.ok] == []

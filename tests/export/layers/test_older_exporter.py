"""Whole networks as torch's older exporter writes them: the same layer is picked."""

import warnings

import torch

from fusioncam.export import check, export_model


def test_older_exporter(few, networks, tmp_path):
    network = networks[few]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        torch.onnx.export(
            network.make(),
            (torch.rand(1, 3, *network.size),),
            tmp_path / "m.onnx",
            dynamo=False,
            opset_version=14,
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "batch"}},
        )
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert manifest.layer.shape == network.shape
    assert [f for f in check(tmp_path / "m.fcam") if not f.ok] == []

"""`benchmarks/qnn.py` on a small network and drawn photos."""

import json
from importlib.util import find_spec

import cv2
import numpy as np
import pytest


def test_a_miniature(part, make_tiny, tmp_path, capsys):
    if find_spec("onnxruntime_qnn") is None:
        pytest.skip("the wheel onnxruntime-qnn is not installed")
    models, photos, out = tmp_path / "models", tmp_path / "photos", tmp_path / "qnn.json"
    models.mkdir()
    photos.mkdir()
    make_tiny().network.write(models / "vww.onnx")
    rng = np.random.default_rng(0)
    for n in range(3):
        cv2.imwrite(str(photos / f"{n}.png"), rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1))
    asked = [
        "--models",
        str(models),
        "--maps",
        "vww",
        "--photos",
        str(photos),
        "--most",
        "2",
        "--pictures",
        str(tmp_path),
    ]
    part("qnn").main([*asked, "--out", str(out)])
    found = json.loads(out.read_bytes())
    assert [row["graph"] for row in found["graphs"]] == ["explain.onnx", "score.onnx", "head.onnx"]
    assert all(row["nodes"] > 0 and row["left"] == {} for row in found["graphs"])
    assert all(output["r"] > 0.999 for row in found["graphs"] for output in row["outputs"].values())
    assert [row["photo"] for row in found["maps"]] == ["0.png", "1.png"]
    assert all(m["r"] > 0.99 for row in found["maps"] for m in row["maps"].values())
    assert cv2.imread(str(tmp_path / "vww-0.png.png")) is not None
    assert "| vww | fusion_cam | 2 | " in capsys.readouterr().out

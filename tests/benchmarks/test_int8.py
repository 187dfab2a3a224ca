"""`benchmarks/int8.py` on a small network and drawn photos."""

import json

import cv2
import numpy as np


def test_a_miniature(part, make_tiny, tmp_path, capsys):
    made = make_tiny(zero=(1, 5), constant=(3,))
    models, photos, out = tmp_path / "models", tmp_path / "photos", tmp_path / "int8.json"
    models.mkdir()
    photos.mkdir()
    made.network.write(models / "vww.onnx")
    rng = np.random.default_rng(0)
    for n in range(6):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        cv2.imwrite(str(photos / f"{n}.png"), pixels)
    cv2.imwrite(str(photos / "0_mask.png"), np.zeros((24, 32), np.uint8))
    arguments = ["--models", str(models), "--photos", str(photos), "--out", str(out)]
    int8 = part("int8")
    assert int8.main(arguments) == 0
    assert int8.main(arguments) == 0  # again: the rows of the model are replaced
    rows = json.loads(out.read_bytes())["rows"]
    assert [r["variant"] for r in rows] == ["int8, no second passes", "int8", "int8, symmetric"]
    for row in rows:
        assert row["photos"] == len(row["seconds"]) == 3
        for method in ("score_cam", "fusion_cam"):
            assert row[method]["photo"] in {"1.png", "3.png", "5.png"}
            assert 0 < row[method]["worst"] <= row[method]["median"] <= 1
    once, again, _ = (row["score_cam"]["worst"] for row in rows)
    assert once != again
    assert "| vww | int8, symmetric | " in capsys.readouterr().out

"""Photos to calibrate on, and bundles whose masked passes are in int8, from the command line to the maps."""

import json
import re

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.calibration import MOST, photos_in

PREP = Preprocessing(size=(24, 24), rescale=1 / 255)


@pytest.fixture
def folder(tmp_path):
    """Pictures of one grey each, 10, 20, .. 60, written in another order than that of their names."""
    (tmp_path / "photos").mkdir()
    for grey in (30, 10, 60, 20, 50, 40):
        cv2.imwrite(str(tmp_path / "photos" / f"{grey}.png"), np.full((30, 20, 3), grey, np.uint8))
    return tmp_path / "photos"


def greys(photos):
    found = {name: round(255 * float(x.mean())) for name, x in photos(PREP)}
    assert [int(name.removesuffix(".png")) for name in found] == list(found.values())
    return list(found.values())


def test_photos_come_in_order_of_their_names_every_time(folder):
    photos = photos_in(folder)
    assert greys(photos) == greys(photos) == [10, 20, 30, 40, 50, 60]
    _, first = next(iter(photos(PREP)))
    assert (first.shape, first.dtype) == ((3, 24, 24), np.float32)


def test_what_is_no_picture_is_left_out_and_said_once(folder):
    (folder / "35.jpg").write_bytes(b"no picture")
    (folder / ".hidden").write_bytes(b"nor this")
    (folder / "annotations.json").write_bytes(b"[]")
    (folder / "deeper").mkdir()
    said = []
    photos = photos_in(folder, said.append)
    assert greys(photos) == greys(photos) == [10, 20, 30, 40, 50, 60]
    (line,) = said
    assert line.startswith("left out of the calibration: ")
    assert "35.jpg" in line


def test_of_many_photos_a_spread(tmp_path):
    for i in range(3 * MOST):
        cv2.imwrite(str(tmp_path / f"{i:03}.png"), np.full((2, 2, 3), i, np.uint8))
    chosen = greys(photos_in(tmp_path))
    assert len(chosen) == MOST
    assert (chosen[0], chosen[-1]) == (0, 3 * MOST - 1)
    assert {*np.diff(chosen)} <= {2, 3, 4}


def test_folders_that_hold_no_photo(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    for name, why in (("empty", "holds no photo"), ("none", r"cannot be read \(No such file")):
        with pytest.raises(UsageError, match=why):
            photos_in(tmp_path / name)
    with pytest.raises(UsageError, match=r"no photo in .*bad can be read; calibrate on photos"):
        list(photos_in(tmp_path / "bad")(PREP))


def test_from_the_command_line(run, work, folder, only_line, tmp_path):
    target = tmp_path / "small.fcam"
    rng = np.random.default_rng(1)
    for i in range(6):
        pixels = rng.integers(0, 256, (6, 6, 3), np.uint8).repeat(6, 0).repeat(6, 1)
        cv2.imwrite(str(folder / f"patches{i}.png"), pixels)
    options = ("tiny.onnx", "-o", target, "--preset", "unit", "--precision", "int8")
    status, out, err = run("export", *options, "--calibrate", folder, "--json")
    assert status == 0, err
    assert json.loads(out)["score_precision"] == "int8"
    status, out, _ = run("check", target, "--photos", folder)
    assert status == 0
    assert out.count("ok  ") == 7
    assert re.search(
        r"\nok    Score-CAM by int8 scores, r with that by exact ones on 12 photos: "
        r"worst \(\w+\.png\) 0\.\d{4} \(at least 0\.95\), share below 0\.99 \S+ \(limit 0\.25\), "
        r"median [01]\.\d{4} \(at least 0\.985\)\n",
        out,
    )
    status, _, err = run("check", target)
    assert "note: how far maps drift on other photos is unknown; measure it with --photos FOLDER" in err
    status, _, err = run("export", *options)
    assert status == 2
    assert only_line(err).startswith("error: int8 needs photos to calibrate on, ")
    (tmp_path / "empty").mkdir()
    status, _, err = run("export", *options, "--calibrate", tmp_path / "empty")
    assert (status, only_line(err)) == (
        2,
        f"error: {tmp_path / 'empty'} holds no photo (its subfolders were not searched); give a folder with pictures, "
        "such as .jpg or .png",
    )


def test_the_maps_are_nearly_those_of_float32(tiny, pictures, tmp_path):
    prep = Explainer(tiny.bundle).manifest.preprocessing.model_dump(exclude={"origin"})
    small = tmp_path / "small.fcam"
    options = {"layer": "layer", "preprocessing": prep, "precision": "int8", "calibrate": lambda _: pictures}
    export_model(tiny.bundle.with_suffix(".onnx"), small, **options)
    exact, rounded = (Explainer(bundle).explain(pictures[0], 1) for bundle in (tiny.bundle, small))
    np.testing.assert_array_equal(rounded.maps["grad_cam"], exact.maps["grad_cam"])
    one, two = (e.maps["score_cam"] for e in (exact, rounded))
    assert 0.98 < np.corrcoef(one.ravel(), two.ravel())[0, 1] < 1

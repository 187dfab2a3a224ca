"""`fusioncam explain` of targets: options, names of files, runs that go on."""

import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, Like, Region, UsageError, Value
from fusioncam.manifest import MANIFEST, read_manifest
from fusioncam.runtime.results.named_targets import NamedTargets

GRAD = ("--methods", "grad_cam", "-q")


@pytest.fixture
def given(photo, tmp_path):
    """A photo and a mask as files."""
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[10:30, 20:50] = 255
    for name, pixels in (("photo.png", photo[..., ::-1]), ("mask.png", mask)):
        cv2.imwrite(str(tmp_path / name), pixels)
    return tmp_path / "photo.png", tmp_path / "mask.png"


def maps_in(out, stem):
    return np.load(out / f"{stem}.npz")["grad_cam"]


@pytest.fixture
def explain(run, tmp_path):
    """Runs `fusioncam explain`, and returns the folder of the results, and what it complains of."""

    def call(model, *options, ends=0):
        out = tmp_path / f"out-{model.source.parent.name}"
        status, _, complaints = run("explain", model.bundle, *options, "-o", out, *GRAD)
        assert status == ends or ends is None, complaints
        return out, complaints

    return call


def test_a_segmenter_is_explained_by_every_class_that_it_finds(made, given, explain):
    segmenter = made("segment")
    out, _ = explain(segmenter, given[0])
    with Explainer(segmenter.bundle, methods=["grad_cam"]) as explainer:
        found = explainer.targets(str(given[0]))
        for target, _, _ in found:
            expected = explainer.explain(str(given[0]), target=target)
            np.testing.assert_array_equal(maps_in(out, expected.stem), expected.maps["grad_cam"])
    assert len(list(out.glob("*.npz"))) == len(found) > 1


def test_masks_points_and_classes_name_regions(made, given, explain):
    photo, mask = given
    segmenter = made("segment")
    out, _ = explain(segmenter, photo, "--region", mask, "-c", "sky", "-c", "tree", "--peak")
    names = sorted(path.stem for path in out.glob("*.json"))
    assert names == ["photo-0_in_the_mask_peak", "photo-1_in_the_mask_peak"]
    explain(segmenter, photo, "--point", "40", "20")
    with Explainer(segmenter.bundle, methods=["grad_cam"]) as explainer:
        expected = explainer.explain(str(photo), target=Region(point=(40, 20))).maps["grad_cam"]
    np.testing.assert_array_equal(maps_in(out, "photo"), expected)


def test_a_run_of_targets_goes_on(made, given, explain):
    photo, mask = given
    options = (made("segment"), photo, "--region", mask, "-c", "sky", "-c", "cat")
    out, _ = explain(*options)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    explain(*options, "--resume")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    next(out.glob("*-3_in_the_mask.npz")).unlink()
    explain(*options, "--resume")
    assert {*out.iterdir()} == {*times}
    _, refused = explain(*options, "--resume", "--peak", ends=2)
    assert "targets was" in refused


def test_two_masks_of_a_class_have_names_of_their_own(made, given, explain, tmp_path):
    photo, mask = given
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), cv2.flip(cv2.imread(str(mask)), 1))
    out, _ = explain(made("segment"), photo, "--region", mask, "--region", other, "-c", "tree")
    assert {path.stem for path in out.glob("*.npz")} == {"photo-1_in_the_mask", "photo-1_in_the_mask__2"}
    assert not np.array_equal(maps_in(out, "photo-1_in_the_mask"), maps_in(out, "photo-1_in_the_mask__2"))


def test_likeness_and_values(made, given, explain, tmp_path):
    photo, mask = given
    np.save(tmp_path / "text.npy", np.arange(7.0))
    out, _ = explain(made("embed"), photo, "--like", mask, "--like", tmp_path / "text.npy")
    assert {path.stem for path in out.glob("*.npz")} == {"photo-like_mask_png", "photo-like_text_npy"}
    record = json.loads((out / "photo-like_text_npy.json").read_bytes())
    assert record["explained"] == ["like_mask_png", "like_text_npy"]
    assert record["target"]["kind"] == "like"
    out, _ = explain(made("values"), photo, "--value", "2", "--down", "--json")
    with Explainer(made("values").bundle, methods=["grad_cam"]) as explainer:
        expected = explainer.explain(str(photo), target=Value(2, down=True)).maps["grad_cam"]
    np.testing.assert_array_equal(maps_in(out, "photo"), expected)


def test_what_is_named_becomes_targets(made):
    named = NamedTargets(classes=("2", "cat"), points=((3, 4),), peak=True)
    segmenter = read_manifest(made("segment").bundle / MANIFEST)
    assert [(t.class_, t.point, t.peak) for t in named.targets_of(segmenter)] == [
        ("2", (3, 4), True),
        ("cat", (3, 4), True),
    ]
    assert NamedTargets(classes=("2",)).targets_of(segmenter) == ()
    assert [type(t) for t in NamedTargets(references=("a.png",)).targets_of(segmenter)] == [Like]
    assert [type(t) for t in NamedTargets(peak=True).targets_of(segmenter)] == [Region]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"classes": ("1",), "references": ("a.png",)}, "a class or region and --like are targets of different models"),
        ({"values": (0,), "masks": ("m.png",)}, "a class or region and --value"),
        ({"down": True}, "--value 0 --down"),
    ],
)
def test_what_contradicts_itself_is_refused(named, words):
    with pytest.raises(UsageError, match=words):
        NamedTargets(**named)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("segment", ("--like", "x.png"), "use Region"),
        ("embed", ("-c", "1"), "use Like"),
        ("embed", (), "needs a reference"),
        ("segment", ("--region", "missing.png"), "missing.png"),
        ("segment", ("-c", "cat"), "wins nowhere"),
        ("classes", ("--point", "1", "1"), "use Class"),
    ],
)
def test_a_target_that_the_model_lacks_is_one_line(made, given, explain, model, options, words):
    _, complaints = explain(made(model), given[0], *options, ends=None)
    assert words in complaints
    assert complaints.count("\n") == 1

"""The commands with models of bands: export, explain and evaluate, with arrays in files."""

import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, read_bundle


def test_arrays_of_every_kind_become_pictures(channels, bundles, run, tmp_path, load_maps):
    tifffile, array, folder = pytest.importorskip("tifffile"), channels.raw(13), tmp_path / "scenes"
    folder.mkdir()
    np.save(folder / "a.npy", array)
    np.savez_compressed(folder / "b.npz", image=array.transpose(2, 0, 1), cloud=array[..., 0])
    tifffile.imwrite(folder / "c.tif", array.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    (folder / "notes.txt").write_text("no array")
    status, _, err = run("explain", bundles("thirteen"), folder, "-o", tmp_path / "out", "--bands", 3, 2, 1)
    assert (status, err.splitlines()) == (0, ["note: 1 other file in the folders was skipped"])
    first, *others = (load_maps(tmp_path / "out" / f"{name}.npz") for name in "abc")
    for method, saliency in first.items():
        for other in others:
            np.testing.assert_array_equal(saliency, other[method])
    panels = [cv2.imread(str(tmp_path / "out" / f"{name}.png")) for name in "abc"]
    assert all(panel is not None and panel.shape[1] > 500 for panel in panels)
    assert json.loads((tmp_path / "out" / "a.json").read_text())["settings"]["bands"] == [3, 2, 1]


def test_without_bands_a_line_says_what_pictures_show(channels, bundles, run, tmp_path):
    np.save(tmp_path / "a.npy", channels.raw(13))
    status, _, err = run("explain", bundles("thirteen"), tmp_path / "a.npy", "-o", tmp_path / "out")
    assert status == 0
    assert "note: pictures show the mean of all bands as grey; choose one band or three with --bands" in err
    np.save(tmp_path / "b.npy", channels.raw(1))
    assert run("explain", bundles("grey"), tmp_path / "b.npy", "-o", tmp_path / "out")[::2] == (0, "")


@pytest.mark.parametrize("bands", ["3 2", "14", "a"])
def test_bands_that_cannot_be_shown(channels, bands, bundles, run, tmp_path, only_line):
    np.save(tmp_path / "a.npy", channels.raw(13))
    asked = ["explain", bundles("thirteen"), tmp_path / "a.npy", "-o", tmp_path / "out", "--bands", *bands.split()]
    status, _, err = run(*asked)
    assert status == 2
    assert "bands" in only_line(err)


def test_export_takes_numbers_for_every_channel(channels, run, tmp_path):
    source = channels.save_model(tmp_path / "m.onnx", 4)
    order = ("--channel-order", 8, 4, 3, 2, "--bands", 4, 3, 2)
    status, _, err = run("export", source, "-o", tmp_path / "m.fcam", "--mean", 1, 2, 3, 4, "--std", 2, *order)
    assert (status, err) == (0, "")
    prep = read_bundle(tmp_path / "m.fcam").preprocessing
    assert (prep.mean, prep.std, prep.channel_order) == ((1, 2, 3, 4), (2, 2, 2, 2), (8, 4, 3, 2))
    assert prep.shown_channels == (1, 2, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mean", "1,2,3"], "mean has 3 numbers, and std 4"),
        (
            ["--preset", "torchvision"],
            "mean and std are of 3 channels, and the model takes 4: give one",
        ),
        (["--channel-order", "grey"], "channel_order 'grey' is of 1 channel, and the model takes 4"),
        (["--channel-order", "rgb"], "mean and std are of 3 channels, and the model takes 4"),
        (["--mean", "a"], "--mean takes numbers, one or one per channel, not 'a'"),
        (["--bands", "1,2,9"], "one or three of the model's bands, 1 to 4, not 1, 2, 9"),
        (["--layout", "nwhc"], "no layout 'nwhc'; use nchw or nhwc"),
    ],
)
def test_preprocessing_of_another_number_of_channels(channels, options, words, run, tmp_path, only_line):
    source = channels.save_model(tmp_path / "m.onnx", 4)
    status, _, err = run("export", source, "-o", tmp_path / "m.fcam", *options)
    assert status == 2
    assert words in only_line(err)


def test_what_is_assumed_is_said(channels, run, tmp_path):
    for count, words in (
        (1, "x = (pixel * 0.003922 - 0) / 1, grey, photos"),
        (4, "x = pixel, as they are, 4 bands"),
    ):
        source = channels.save_model(tmp_path / "m.onnx", count)
        _, _, err = run("export", source, "-o", tmp_path / "m.fcam")
        assert f"does not say how pictures are prepared: {words}" in err
        assert "assumed_preprocessing" in Explainer(tmp_path / "m.fcam").explain(channels.raw(count)).flags


def test_evaluation_of_arrays(channels, bundles, run, tmp_path):
    for seed in range(2):
        np.save(tmp_path / f"{seed}.npy", channels.raw(4, seed))
    asked = [
        "evaluate",
        bundles("four"),
        tmp_path,
        "-o",
        tmp_path / "out",
        "--metrics",
        "drop,insertion",
        "--steps",
        4,
    ]
    status, _, err = run(*asked)
    assert status == 0, err
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row.get("error") for row in rows if "image" in row] == [None, None]

"""Signals (C, L) and volumes (C, D, H, W), from arrays and files to maps, pictures and results."""

import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from fusioncam import Explainer, difference
from fusioncam.errors import ImageError, UsageError
from fusioncam.export import export_model
from fusioncam.manifest import Preprocessing, read_bundle
from fusioncam.runtime.commands.app import app
from fusioncam.runtime.photos.formats.nifti import is_nifti
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.picture.projection import project, strongest_slices
from fusioncam.runtime.service.protocol.metadata import metadata
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings
from tests.oracle import Oracle
from tests.spatial_models import SIZES, save_classifier

RANKS = pytest.mark.parametrize("rank", SIZES)
LABELS = ("one", "two", "three")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Bundles by rank."""
    folder = tmp_path_factory.mktemp("bundles")
    for rank in SIZES:
        source = save_classifier(folder / f"{rank}.onnx", rank)
        export_model(source, folder / f"{rank}.fcam", labels=LABELS, preprocessing={"mean": (0.5, -0.25), "std": 2.0})
    return {rank: folder / f"{rank}.fcam" for rank in SIZES}


def numbers(rank, seed=0):
    """An array as a user has it, with an event in its middle: (C, L) or (C, D, H, W) float64."""
    values = np.random.default_rng(seed).standard_normal((2, *SIZES[rank]))
    values[(slice(None), *(slice(n // 3, n // 2) for n in SIZES[rank]))] += 3
    return values


def model_input(rank, seed=0):
    """The same as the model takes it."""
    shape = (2, *[1] * rank)
    return ((numbers(rank, seed) - np.reshape((0.5, -0.25), shape)) / 2).astype(np.float32)


class TestMaps:
    """Maps against an independent computation."""

    @RANKS
    def test_fusion_cam_is_that_of_the_paper(self, bundles, rank):
        found = Explainer(bundles[rank]).explain(numbers(rank), class_index=1)
        x = model_input(rank)
        session = onnxruntime.InferenceSession(str(bundles[rank] / "explain.onnx"), providers=["CPUExecutionProvider"])
        feeds = {"image": x[None], "class_index": np.array([1])}
        activations, gradients = (a[0].astype(np.float64) for a in session.run(["activations", "gradients"], feeds))
        wanted = Oracle(bundles[rank]).maps(x.astype(np.float64), 1, activations, gradients)
        for method, m in wanted.items():
            assert found.maps[method].shape == SIZES[rank]
            np.testing.assert_allclose(found.maps[method], m, atol=1e-4, err_msg=method)

    @RANKS
    def test_recipro_cam_keeps_one_place_at_a_time(self, bundles, rank):
        found = Explainer(bundles[rank], methods=["recipro_cam"]).explain(numbers(rank), class_index=1)
        head = onnxruntime.InferenceSession(str(bundles[rank] / "head.onnx"), providers=["CPUExecutionProvider"])
        grid = Explainer(bundles[rank]).manifest.layer.grid
        masks = np.eye(int(np.prod(grid)), dtype=np.float32).reshape(-1, 1, *grid)
        scores = head.run(["logits"], {"image": model_input(rank)[None], "masks": masks})[0][:, 1]
        wanted = Oracle.unit(Oracle.up(scores.reshape(grid), SIZES[rank]))
        np.testing.assert_allclose(found.maps["recipro_cam"], wanted, atol=1e-4)

    @RANKS
    def test_a_budget_of_few_passes_comes_near(self, bundles, rank):
        exact = Explainer(bundles[rank]).explain(numbers(rank)).maps["score_cam"]
        few = Explainer(bundles[rank], budget=8).explain(numbers(rank))
        assert few.passes.run <= 8
        assert np.corrcoef(few.maps["score_cam"].ravel(), exact.ravel())[0, 1] > 0.5

    @RANKS
    def test_every_method_verdicts_and_noisy_views(self, bundles, rank):
        methods = ["group_cam", "union_cam", "layer_cam", "score_cam_corners", "fusion_cam:layer_cam+group_cam"]
        explainer = Explainer(bundles[rank], methods=methods, smooth=["noise"])
        found = explainer.explain(numbers(rank), verify=True)
        assert all(m.shape == SIZES[rank] and m.max() == 1 for m in found.maps.values())
        assert set(found.verdict.figures) == {"map", "shuffled", "flipped", "centre"}
        assert (found.verdict.numbers["flip"] is None) == (rank == 1)

    def test_a_signal_is_not_mirrored(self, bundles):
        with pytest.raises(UsageError, match="its samples have an order"):
            Explainer(bundles[1], smooth=["flip"])
        assert Explainer(bundles[3], smooth=["flip"]).explain(numbers(3)).smooth == ("flip",)

    @RANKS
    def test_a_batch_and_the_difference_of_two_classes(self, bundles, rank):
        explainer = Explainer(bundles[rank])
        one, two = explainer.explain_batch(np.stack([model_input(rank, seed) for seed in range(2)]))
        np.testing.assert_allclose(one.maps["grad_cam"], explainer.explain(numbers(rank)).maps["grad_cam"], atol=1e-6)
        made = difference(*explainer.explain_batch([numbers(rank)], [[0, 1]], keep_photos=True))
        assert made.panel().shape[2] == made.overlay().shape[2] == 3
        assert two.maps["fusion_cam"].shape == SIZES[rank]


class TestInputs:
    """Arrays and files in their forms."""

    @RANKS
    @pytest.mark.parametrize("last", [False, True])
    def test_raw_numbers_are_normalised(self, rank, last):
        prep = Preprocessing(size=SIZES[rank], mean=(0.5, -0.25), std=(2, 2))
        values = np.moveaxis(numbers(rank), 0, -1) if last else numbers(rank)
        np.testing.assert_allclose(as_input(values, prep)[1], model_input(rank), atol=1e-6)

    def test_the_pictures_of_a_video(self):
        prep = Preprocessing(size=SIZES[3], mean=(0.5, -0.25), std=(2, 2))
        np.testing.assert_allclose(as_input(numbers(3).swapaxes(0, 1), prep)[1], model_input(3), atol=1e-6)

    @RANKS
    def test_one_channel_needs_no_axis(self, rank):
        prep = Preprocessing(size=SIZES[rank], mean=(0.0,), std=(1.0,))
        values = numbers(rank)[0]
        np.testing.assert_allclose(as_input(values, prep)[1][0], values, atol=1e-6)

    def test_a_volume_is_resized_along_each_axis(self):
        prep = Preprocessing(size=(9, 15, 24), mean=(0.0, 0.0), std=(1.0, 1.0))
        wanted = torch.nn.functional.interpolate(torch.from_numpy(numbers(3))[None], prep.size, mode="trilinear")[0]
        np.testing.assert_allclose(as_input(numbers(3), prep)[1], wanted.numpy(), atol=1e-5)

    def test_other_sizes_are_refused_where_nothing_is_resized(self, bundles, tmp_path):
        with pytest.raises(ImageError, match="signals of 60 only: cut or resample"):
            Explainer(bundles[1]).explain(numbers(1)[:, :50])
        prep = Preprocessing(size=SIZES[3], mean=(0.0, 0.0), std=(1.0, 1.0), resize="none")
        with pytest.raises(ImageError, match="volumes of 6 x 10 x 12 only"):
            as_input(numbers(3)[:, :5], prep)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros((3, 60)), "2 channels, .2, 60. as .C, L."),
            (np.zeros((60,)), "2 channels"),
            (np.full((2, 60), np.nan), "NaN or infinity"),
            (np.zeros((2, 60), complex), "2 channels"),
            ("a", "there is no picture"),
        ],
    )
    def test_what_is_no_signal(self, bundles, values, message):
        with pytest.raises(ImageError, match=message):
            Explainer(bundles[1]).explain(values)

    def test_axes_that_could_both_hold_the_channels(self):
        prep = Preprocessing(size=(8, 8, 8), mean=(0.0, 0.0), std=(1.0, 1.0))
        with pytest.raises(ImageError, match="which axis holds the channels"):
            as_input(np.zeros((2, 9, 9, 2)), prep)
        assert as_input(np.zeros((2, 8, 8, 8)), prep)[1].shape == (2, 8, 8, 8)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"size": (60,), "resize": "crop"}, "resize crop is not for signals: use squash or none"),
            ({"size": (6, 10, 12), "channel_order": "rgb"}, "channel_order is for pictures"),
            ({"size": (8, 8), "resize": "none"}, "resize none is not for pictures"),
        ],
    )
    def test_preprocessing_that_makes_no_sense(self, fields, message):
        with pytest.raises(ValueError, match=message):
            Preprocessing(mean=(0.0, 0.0, 0.0), **fields)


class TestPictures:
    """Charts and rows of slices."""

    def test_slices_go_through_the_strongest_places(self):
        saliency = np.zeros((40, 4, 5), np.float32)
        saliency[[3, 4, 20, 33], 1, 1] = (0.5, 0.4, 1, 0.7)
        assert {3, 20, 33} <= set(strongest_slices(saliency))
        assert 4 not in strongest_slices(saliency)
        assert strongest_slices(np.zeros((9, 2, 2), np.float32)) == [0, 2, 4, 6, 8]
        assert strongest_slices(np.ones((3, 2, 2), np.float32)) == [0, 1, 2]

    def test_a_row_of_slices_shows_the_volume_and_its_map(self):
        volume = np.zeros((8, 32, 64, 3), np.uint8)
        volume[5] = 200
        saliency = np.zeros((8, 32, 64), np.float32)
        saliency[5, 8:16, 20:40] = 1
        flat = project(volume, {"fusion_cam": saliency})
        assert "5" in flat.caption
        lit = flat.picture[..., 0] == 200
        np.testing.assert_array_equal(np.where(lit, flat.maps["fusion_cam"], 0), flat.maps["fusion_cam"])
        assert flat.maps["fusion_cam"].sum() == saliency[5].sum()
        assert flat.picture.shape[:2] == flat.maps["fusion_cam"].shape

    def test_a_chart_has_the_map_behind_its_lines(self, bundles):
        found = Explainer(bundles[1]).explain(numbers(1))
        drawn, chart = found.overlay("fusion_cam"), project(found.photo.shown, {}).picture
        assert (drawn[chart.max(-1) < 60] < 60).all()  # lines stay dark
        column = found.maps["fusion_cam"].argmax() * chart.shape[1] // 60 + 5
        assert np.ptp(drawn[5, column].astype(int)) > 100  # colour
        assert found.panel().shape[1] > 1000

    def test_a_flat_signal_and_many_channels_have_a_chart(self):
        assert project(np.zeros((50, 3), np.float32), {}).picture.min() < 100
        many = np.random.default_rng(0).random((50, 64), np.float32)
        assert project(many, {}).picture.shape[0] < 400

    def test_a_panel_of_a_volume(self, bundles):
        found = Explainer(bundles[3]).explain(numbers(3))
        assert found.photo.shown.shape == (*SIZES[3], 3)
        panel = found.panel()
        assert panel.shape[1] >= 900
        assert found.overlay().shape[1] > 5 * SIZES[3][2] - 1

    def test_a_map_lies_on_a_volume_of_another_size(self, bundles):
        whole = np.random.default_rng(0).standard_normal((2, 12, 30, 24))
        found = Explainer(bundles[3]).explain(whole, keep_photo=True)
        assert found.photo_size == (12, 30, 24)
        np.testing.assert_allclose(
            found.on_photo("grad_cam"), Oracle.up(found.maps["grad_cam"], (12, 30, 24)), atol=1e-5
        )
        assert found.overlay().shape[0] == 30

    def test_overlay_of_a_signal_is_refused(self, bundles):
        with pytest.raises(UsageError, match="a signal is no picture"):
            Explainer(bundles[1]).overlay(numbers(1))


class TestFiles:
    """Files in, results out."""

    def test_explain_writes_maps_and_panel_of_a_signal(self, bundles, tmp_path, run_command):
        np.savez(tmp_path / "beat.npz", image=numbers(1))
        run_command("explain", bundles[1], tmp_path / "beat.npz", "-o", tmp_path / "out")
        wanted = Explainer(bundles[1]).explain(numbers(1)).maps
        with np.load(tmp_path / "out/beat.npz") as found:
            np.testing.assert_allclose(found["fusion_cam"], wanted["fusion_cam"], atol=1e-6)
        assert (tmp_path / "out/beat.png").stat().st_size > 1000

    @RANKS
    def test_evaluate_is_refused_in_a_line(self, bundles, tmp_path, rank):
        np.save(tmp_path / "a.npy", numbers(rank))
        found = CliRunner().invoke(app, ["evaluate", str(bundles[rank]), str(tmp_path), "-o", str(tmp_path / "out")])
        assert "maps of pictures are measured" in str(found.exception)

    @RANKS
    def test_the_service_tells_the_shapes(self, bundles, rank):
        pipeline = SimpleNamespace(manifest=read_bundle(bundles[rank]))
        told = metadata(ServedModel("m", SimpleNamespace(pipeline=pipeline)), Settings(), ["1"])
        shapes = {tensor.name: tensor.shape for tensor in [*told.inputs, *told.outputs]}
        assert shapes["image"] == [-1, 2, *SIZES[rank]]
        assert shapes["fusion_cam"] == [-1, *SIZES[rank]]

    def test_a_picture_for_a_signal_is_refused(self, bundles, tmp_path):
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(ImageError, match=r"give an \.npy or an \.npz"):
            Explainer(bundles[1]).explain(tmp_path / "a.png")

    def test_a_nifti_gives_a_nifti(self, bundles, tmp_path, run_command):
        nibabel = pytest.importorskip("nibabel")
        affine = np.diag([2.0, 2, 3, 1])
        affine[:3, 3] = -10, 5, 7
        scan = np.moveaxis(np.random.default_rng(0).integers(-500, 500, (2, 9, 20, 18)), 0, -1).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(scan, affine), tmp_path / "scan.nii.gz")
        nibabel.save(nibabel.Nifti2Image(scan, affine), tmp_path / "plain.nii")
        out = tmp_path / "out"
        run_command("explain", bundles[3], tmp_path / "scan.nii.gz", tmp_path / "plain.nii", "-o", out)
        made = nibabel.load(out / "scan.fusion_cam.nii.gz")
        np.testing.assert_allclose(made.affine, affine)
        found = Explainer(bundles[3]).explain(np.moveaxis(scan, -1, 0).astype(np.float64))
        np.testing.assert_allclose(made.get_fdata(), found.on_photo("fusion_cam"), atol=1e-5)
        assert set(json.loads((out / "plain.json").read_text())["volumes"]) == {"fusion_cam", "grad_cam", "score_cam"}
        (saved,) = Explainer(bundles[3]).explain(tmp_path / "scan.nii.gz").save(tmp_path / "map.nii.gz")
        np.testing.assert_allclose(nibabel.load(saved).get_fdata(), made.get_fdata(), atol=1e-5)

    def test_a_damaged_nifti_is_refused_in_a_line(self, bundles, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.eye(4)), tmp_path / "a.nii")
        data = (tmp_path / "a.nii").read_bytes()
        assert is_nifti(data)
        (tmp_path / "a.nii").write_bytes(data[:-20])
        with pytest.raises(ImageError, match="damaged or cut short"):
            Explainer(bundles[3]).explain(tmp_path / "a.nii")

    def test_without_nibabel_the_error_says_what_to_install(self, bundles, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
        head = bytearray(352)
        head[:4], head[344:348] = (348).to_bytes(4, "little"), b"n+1\0"
        (tmp_path / "a.nii").write_bytes(bytes(head))
        with pytest.raises(ImageError, match=r"pip install .fusioncam\[nifti\]"):
            Explainer(bundles[3]).explain(tmp_path / "a.nii")


@pytest.fixture
def run_command():
    """Run a command, which must succeed."""

    def run(*words):
        result = CliRunner().invoke(app, [*map(str, words)])
        assert result.exit_code == 0, result.output

    return run

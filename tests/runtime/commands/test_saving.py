"""What `explain` writes, and that nothing of the user's is lost by it."""

import errno
import json

import cv2
import numpy as np
import pytest

from fusioncam.manifest import read_bundle
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import on_photo, visible_slices
from fusioncam.runtime.picture import COLORMAPS, STYLES, overlay
from fusioncam.runtime.results import making
from fusioncam.runtime.results.making import OutputOptions
from fusioncam.runtime.results.names import ResultNames, safe_name

GRAD = ("--methods", "grad_cam")


@pytest.fixture
def cropping(run, work, tmp_path):
    """A bundle whose model sees the middle of a photo."""
    bundle = tmp_path / "crop.fcam"
    given = ("--preset", "unit", "--resize", "crop", "--crop-fraction", "0.75", "--labels", "labels.txt")
    assert run("export", "tiny.onnx", "-o", bundle, *given)[0] == 0
    return bundle


def names(folder):
    return sorted(p.name for p in folder.iterdir())


class TestResolution:
    def test_arrays_at_the_size_of_the_photo(self, run, cropping, work, tmp_path, load_maps):
        for resolution in ("model", "photo"):
            out = tmp_path / resolution
            status, _, err = run("explain", cropping, "one.png", "-o", out, "--resolution", resolution)
            assert status == 0, err
            assert json.loads((out / "one.json").read_text())["resolution"] == resolution
        small, large = (load_maps(tmp_path / r / "one.npz") for r in ("model", "photo"))
        preprocessing = read_bundle(cropping).preprocessing
        assert list(small) == list(large) == ["fusion_cam", "grad_cam", "score_cam"]
        for method, saliency in small.items():
            assert saliency.shape == (24, 24)
            np.testing.assert_array_equal(large[method], on_photo(saliency, (40, 60), preprocessing))


class TestSeparate:
    def test_each_map_on_the_whole_photo(self, run, cropping, work, tmp_path, load_maps):
        options = ("--style", "top", "--top", "10", "--opacity", "0.5")
        status, _, err = run("explain", cropping, "one.png", "-o", tmp_path / "out", "--separate", *options)
        assert status == 0, err
        methods = ["fusion_cam", "grad_cam", "score_cam"]
        pictures = [f"one.{method}.png" for method in methods]
        assert names(tmp_path / "out") == sorted(["one.json", "one.npz", "one.png", *pictures])
        record = json.loads((tmp_path / "out" / "one.json").read_text())
        assert record["pictures"] == {m: str(tmp_path / "out" / f"one.{m}.png") for m in methods}
        photo, preprocessing = read_image(work / "one.png"), read_bundle(cropping).preprocessing
        seen = visible_slices((40, 60), preprocessing)
        for method, saliency in load_maps(tmp_path / "out" / "one.npz").items():
            drawn = read_image(tmp_path / "out" / f"one.{method}.png")
            assert drawn.shape == photo.shape
            whole = on_photo(saliency, (40, 60), preprocessing)
            expected = overlay(photo[seen], whole[seen], opacity=0.5, style="top", top=10)
            np.testing.assert_array_equal(drawn[seen], expected)
            drawn[seen] = 255
            assert drawn.min() >= 170  # what the model did not see fades

    def test_names_that_every_file_system_takes(self, run, bundle, tmp_path):
        assert safe_name("fusion_cam:layer_cam+group_cam:12.5") == "fusion_cam-layer_cam-group_cam-12.5"
        method = "fusion_cam:layer_cam+score_cam"
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path, "--separate", "--methods", method)
        assert status == 0, err
        assert "one.fusion_cam-layer_cam-score_cam.png" in names(tmp_path)

    def test_pictures_whose_files_would_be_called_alike_are_numbered(self, run, bundle, work, tmp_path):
        photos = [tmp_path / "one.png", tmp_path / "one.grad_cam.png"]
        for photo in photos:
            photo.write_bytes((work / "one.png").read_bytes())
        out = tmp_path / "out"
        status, _, err = run("explain", bundle, *photos, "-o", out, "--separate", *GRAD)
        assert status == 0, err
        assert {"one.png", "one.grad_cam.png", "one.grad_cam_2.png"} < set(names(out))
        assert len(names(out)) == 8

    def test_pictures_whose_files_differ_in_case_alone_are_numbered(self):
        names = ResultNames(OutputOptions().endings(["grad_cam"]))
        places = ["photo.png", "Photo.jpg", "PHOTO_2.png", "caf\u00e9", "Cafe\u0301", "sub/photo.png", "SUB/photo.png"]
        stems = ["photo", "Photo_2", "PHOTO_2_2", "caf\u00e9", "Cafe\u0301_2", "sub/photo", "SUB/photo_2"]
        assert [names.claim(place) for place in places] == stems


class TestOverwriting:
    @pytest.mark.parametrize("options", [("-k", "2"), ("--above", "0"), ("-c", "0", "-c", "1")])
    def test_not_a_picture_that_is_called_like_one_of_several_results(
        self, run, bundle, work, tmp_path, options, only_line
    ):
        kept = tmp_path / "one-1.png"
        kept.write_bytes(b"mine")
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, *options)
        assert status == 2
        assert "could overwrite a picture" in only_line(err)
        assert kept.read_bytes() == b"mine"

    def test_not_a_picture_that_is_called_like_a_separate_one(self, run, bundle, tmp_path, only_line):
        (tmp_path / "one.grad_cam.png").write_bytes(b"mine")
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, "--separate")
        assert status == 2
        assert "could overwrite a picture" in only_line(err)
        assert run("explain", bundle, "one.png", "-o", tmp_path, *GRAD)[0] == 0

    @pytest.mark.parametrize("options", [("-k", "2"), ("--separate",), ("--versus", "0", "-c", "1")])
    def test_older_results_are_replaced(self, run, bundle, tmp_path, options):
        for _ in range(2):
            assert run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, *options)[0] == 0


class TestClasses:
    def test_the_most_probable_ones(self, run, bundle, tmp_path):
        status, out, _ = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, "-k", "3", "--json")
        assert status == 0
        found = json.loads(out)["explanations"]
        chances = [e["probability"] for e in found]
        assert len(found) == 3
        assert chances == sorted(chances, reverse=True)
        assert names(tmp_path) == sorted(f"one-{e['class_index']}.{k}" for e in found for k in ("npz", "png", "json"))

    def test_those_of_a_probability(self, run, bundle, tmp_path):
        status, out, _ = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, "--above", "0", "--json")
        assert status == 0
        assert len(json.loads(out)["explanations"]) == 4

    def test_where_there_is_none_it_is_said(self, run, bundle, tmp_path):
        status, out, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", *GRAD, "--above", "1")
        assert (status, out) == (0, "")
        assert err == "note: one.png: no class has a probability of 1 or more\n"
        assert not (tmp_path / "out").exists()

    def test_the_difference_of_two(self, run, bundle, tmp_path, load_maps):
        pair = ("-c", "tabby", "--versus", "egyptian cat")
        status, out, err = run("explain", bundle, "one.png", "-o", tmp_path / "d", *pair, "--separate")
        assert status == 0, err
        assert "tabby" in out
        assert "Egyptian cat" in out
        assert run("explain", bundle, "one.png", "-o", tmp_path / "s", "-c", "0", "-c", "1")[0] == 0
        signed, *both = (load_maps(tmp_path / f) for f in ("d/one.npz", "s/one-0.npz", "s/one-1.npz"))
        for method in ("fusion_cam", "grad_cam", "score_cam"):
            np.testing.assert_allclose(signed[method], both[0][method] - both[1][method], atol=1e-6)
            assert (tmp_path / "d" / f"one.{method}.png").is_file()
        record = json.loads((tmp_path / "d" / "one.json").read_text())
        assert (record["class_index"], record["versus"]["class_index"]) == (0, 1)
        assert record["versus"]["label"] == "Egyptian cat"
        assert cv2.imread(str(tmp_path / "d" / "one.png")) is not None

    def test_a_picture_whose_top_class_is_the_other_is_reported(self, run, bundle, tmp_path, only_line):
        _, out, _ = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, "--json")
        top = json.loads(out)["explanations"][0]["class_index"]
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path, *GRAD, "--versus", top)
        assert status == 1
        assert "cannot be compared with itself" in only_line(err)


class TestFullDisk:
    @pytest.mark.parametrize("options", [(), ("--separate",)])
    def test_none_of_a_pictures_files_is_left(self, run, bundle, tmp_path, monkeypatch, options, only_line):
        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(making, "encode_png", full)
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", *GRAD, *options)
        assert status == 1
        assert "free some space" in only_line(err)
        assert not (tmp_path / "out").exists()


class TestLook:
    def test_the_help_names_every_colour_map_and_style(self, run):
        text = run("explain", "--help")[1]
        assert all(name in text for name in (*COLORMAPS, *STYLES))

    @pytest.mark.parametrize("style", STYLES)
    def test_styles_and_colours_reach_the_panel(self, run, bundle, tmp_path, style):
        panels = set()
        for n, options in enumerate([(), ("--colormap", "jet"), ("--opacity", "0.2")]):
            status, _, err = run(
                "explain", bundle, "one.png", "-o", tmp_path / str(n), *GRAD, "--style", style, *options
            )
            assert status == 0, err
            panels.add((tmp_path / str(n) / "one.png").read_bytes())
        assert len(panels) == (2 if style == "top" else 3)  # a single outline has no use for a colour map

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--style", "pie"), "no style 'pie'"),
            (("--style", "top", "--top", "0"), "top must be"),
            (("--style", "top", "--top", "nan"), "top must be"),
            (("--top", "2.5"), "--top is a whole number of classes"),
            (("--top", "2", "-k", "2"), "--top and -k say the same"),
            (("--conf", "0.5"), "--conf is for detectors"),
            (("--opacity", "1.5"), "opacity must be"),
            (("--colormap", "beige"), "no colour map 'beige'"),
            (("--resolution", "huge"), "no resolution 'huge'"),
            (("-k", "0"), "1 to 4"),
            (("-k", "5"), "1 to 4"),
            (("-k", "some"), "-k"),
            (("--above", "1.5"), "--above must be a probability"),
            (("--above", "nan"), "--above must be a probability"),
            (("-k", "2", "-c", "1"), "-c and --top"),
            (("--versus", "9"), "0 to 3"),
            (("--versus", "dog"), "no class is called 'dog'"),
            (("--versus", "1", "-c", "1"), "another class than -c"),
            (("--versus", "1", "-k", "2"), "--versus compares two classes"),
            (("--versus", "1", "--style", "top"), "colours of its own"),
            (("--versus", "1", "--colormap", "jet"), "colours of its own"),
            (("--smooth", "sand"), "no smoothing 'sand'"),
            (("--also", "missing.fcam"), "missing.fcam"),
        ],
    )
    def test_what_makes_no_sense_is_one_line_and_writes_nothing(self, run, bundle, tmp_path, options, words, only_line):
        status, out, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", *options)
        assert status == (1 if "--also" in options else 2)
        assert out == ""
        assert words in only_line(err)
        assert not (tmp_path / "out").exists()


def test_views_and_layers_are_averaged(run, bundle, tmp_path, load_maps):
    plain, both = tmp_path / "plain", tmp_path / "both"
    assert run("explain", bundle, "one.png", "-o", plain, *GRAD)[0] == 0
    assert run("explain", bundle, "one.png", "-o", both, *GRAD, "--smooth", "flip,noise", "--also", bundle)[0] == 0
    one, other = (load_maps(folder / "one.npz")["grad_cam"] for folder in (plain, both))
    assert one.shape == other.shape
    assert not np.array_equal(one, other)


class TestVerdict:
    def test_the_verdict_is_printed_stored_and_drawn(self, run, bundle, tmp_path):
        for option in ("--quiet", "--verify"):
            status, said, err = run("explain", bundle, "one.png", "-o", tmp_path / option, "--quiet", option)
            assert status == 0, err
        _, second = said.splitlines()
        verdict = json.loads((tmp_path / "--verify" / "one.json").read_text())["verdict"]
        assert second.startswith(f"  Fusion-CAM is {verdict['name']}")
        assert all(reason in second for reason in verdict["reasons"])
        assert "verdict" not in json.loads((tmp_path / "--quiet" / "one.json").read_text())
        plain, judged = (cv2.imread(str(tmp_path / option / "one.png")) for option in ("--quiet", "--verify"))
        assert judged.shape[0] >= plain.shape[0]
        assert judged.shape != plain.shape or (judged != plain).any()

    def test_a_difference_has_no_verdict(self, run, bundle, only_line, tmp_path):
        status, _, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", "--verify", "--versus", "1")
        assert status != 0
        assert "leave out --versus" in only_line(err)

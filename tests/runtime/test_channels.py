"""Models of 1, 4 and 13 channels, from the export to the picture: maps, commands, arrays in files, the service."""

import asyncio
import io
import json
import pickle

import cv2
import httpx
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer, photos_in, read_bundle
from fusioncam.errors import ImageError, UsageError
from fusioncam.export import check, export_model
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

SIZE, LAYERS, CLASSES = (24, 20), 6, 4
FORMS = {
    "grey": (1, False),
    "four": (4, False),
    "thirteen": (13, False),
    "grey_last": (1, True),
    "four_last": (4, True),
}
REFLECTANCE = {"rescale": 1e-4, "mean": 0.1, "std": 0.5, "channel_order": "bands"}


def weights_of(channels):
    rng = np.random.default_rng(channels)
    shapes = {"w": (LAYERS, channels, 3, 3), "v": (LAYERS, CLASSES), "b": (LAYERS,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def save_model(path, channels, last=False):
    """Conv - Relu - pool - Gemm, of N x C x H x W, or N x H x W x C."""
    first = [helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2])] if last else []
    nodes = [
        *first,
        helper.make_node("Conv", ["nchw" if last else "input", "w", "b"], ["conv"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["scores"]),
    ]
    shape = ["N", *SIZE, channels] if last else ["N", channels, *SIZE]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(v, k) for k, v in weights_of(channels).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def raw(channels, seed=0):
    """Reflectances of a scene, (48, 50, C) uint16."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 9000, (6, 7, channels)).astype(np.float32)
    planes = [cv2.resize(coarse[..., c], (50, 48), interpolation=cv2.INTER_CUBIC) for c in range(channels)]
    return np.stack(planes, axis=2).clip(0, 10000).astype(np.uint16)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    made = {}

    def make(form, **options):
        key = (form, *sorted(map(str, options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("channels")
            channels, last = FORMS[form]
            source = save_model(folder / f"{form}.onnx", channels, last)
            export_model(source, folder / f"{form}.fcam", **{"preprocessing": REFLECTANCE, **options})
            made[key] = folder / f"{form}.fcam"
        return made[key]

    return make


def in_torch(x, channels, c):
    """The activations and the gradient of class c in float64."""
    weights = {name: torch.from_numpy(w.astype(np.float64)) for name, w in weights_of(channels).items()}
    image = torch.from_numpy(x.astype(np.float64))[None]
    conv = torch.nn.functional.conv2d(image, weights["w"], weights["b"], stride=2, padding=1)
    features = conv.relu().detach().requires_grad_(True)
    (features.mean(dim=(2, 3)) @ weights["v"])[0, c].backward()
    return features.detach()[0].numpy(), features.grad[0].numpy()


@pytest.mark.parametrize("form", FORMS)
def test_maps_are_those_of_the_method_written_a_second_time(form, bundles, oracle):
    channels, _ = FORMS[form]
    bundle, array = bundles(form), raw(channels)
    assert [f.what for f in check(bundle) if not f.ok] == []
    manifest = read_bundle(bundle)
    assert manifest.preprocessing.shape == (channels, *SIZE)
    explanation = Explainer(bundle).explain(array, class_index=2)
    planes = torch.from_numpy(array.astype(np.float64)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, SIZE, mode="bilinear", antialias=True)[0].numpy()
    x = ((resized * 1e-4 - 0.1) / 0.5).astype(np.float32)
    activations, gradients = in_torch(x, channels, 2)
    for method, expected in oracle(bundle).maps(x, 2, activations, gradients).items():
        np.testing.assert_allclose(explanation.maps[method], expected, atol=2e-4, err_msg=method)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_autograd(form, bundles, run_graph):
    channels, _ = FORMS[form]
    x = np.random.default_rng(1).normal(size=(channels, *SIZE)).astype(np.float32)
    found = run_graph(bundles(form) / "explain.onnx", {"image": x[None], "class_index": np.array([1])})
    activations, gradients = in_torch(x, channels, 1)
    np.testing.assert_allclose(found["activations"][0], activations, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["gradients"][0], gradients, rtol=1e-5)


@pytest.fixture(scope="module")
def run_graph():
    import onnxruntime

    def run_graph(path, feeds):
        session = onnxruntime.InferenceSession(path)
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))

    return run_graph


class TestPrecisions:
    @pytest.mark.parametrize("form", ["grey", "four", "thirteen"])
    def test_float16_and_int8_give_nearly_the_same_maps(self, form, bundles, tmp_path):
        channels, _ = FORMS[form]
        for seed in range(4):
            np.save(tmp_path / f"{seed}.npy", raw(channels, seed))
        options = {"fp16": {}, "int8": {"calibrate": photos_in(tmp_path), "accept_drift": True}}
        exact = Explainer(bundles(form)).explain(raw(channels, 9), 1)
        for precision, more in options.items():
            bundle = bundles(form, precision=precision, **more)
            found = Explainer(bundle).explain(raw(channels, 9), 1)
            assert np.abs(found.maps["grad_cam"] - exact.maps["grad_cam"]).max() < 1e-5
            correlation = np.corrcoef(found.maps["score_cam"].ravel(), exact.maps["score_cam"].ravel())[0, 1]
            assert correlation > 0.95, (precision, correlation)

    @pytest.mark.parametrize("form", ["grey", "thirteen"])
    def test_the_single_graph_gives_the_same_maps(self, form, bundles, run_graph):
        channels, _ = FORMS[form]
        bundle = bundles(form, single=True)
        x = np.random.default_rng(2).normal(size=(channels, *SIZE)).astype(np.float32)
        found = run_graph(bundle / "fusioncam.onnx", {"image": x[None], "class_index": np.array([3])})
        for method, saliency in Explainer(bundle).explain(x, 3).maps.items():
            np.testing.assert_allclose(found[method][0], saliency, atol=1e-5, err_msg=method)


class TestPictures:
    def test_panels_and_overlays_show_the_chosen_bands(self, bundles):
        array, bundle = raw(13), bundles("thirteen")
        shown = [Explainer(bundle, bands=bands).explain(array, 1) for bands in ((3, 2, 1), (5,), None)]
        panels = [explanation.panel() for explanation in shown]
        assert len({panel.tobytes() for panel in panels}) == 3
        assert [e.facts["Shown"] for e in shown] == ["bands 3, 2, 1", "band 5", "the mean of 13 bands"]
        for explanation in shown:
            assert explanation.overlay().shape == (48, 50, 3)
            np.testing.assert_array_equal(explanation.overlay(photo=array), explanation.overlay())
            np.testing.assert_array_equal(explanation.maps["fusion_cam"], shown[0].maps["fusion_cam"])
        with pytest.raises(UsageError, match="not the photo that was explained"):
            shown[0].overlay(photo=raw(13, 5))

    def test_the_bundle_keeps_bands_and_an_explainer_may_be_sent(self, bundles):
        bundle = bundles("four", preprocessing={**REFLECTANCE, "shown_bands": (4, 2, 1)})
        assert Explainer(bundle).manifest.preprocessing.shown_bands == (4, 2, 1)
        sent = pickle.loads(pickle.dumps(Explainer(bundle, bands=(2,))))
        assert sent.explain(raw(4)).facts["Shown"] == "band 2"

    def test_preprocessed_inputs_have_pictures_too(self, bundles):
        x = np.random.default_rng(0).normal(size=(13, *SIZE)).astype(np.float32)
        explanation = Explainer(bundles("thirteen")).explain(x)
        assert explanation.photo_size is None
        assert explanation.overlay().shape == (*SIZE, 3)

    @pytest.mark.parametrize(
        ("form", "bands", "words"),
        [
            ("thirteen", (1, 2), "bands to show are one or three of the model's bands, 1 to 13, not 1, 2"),
            ("thirteen", (0, 1, 2), "not 0, 1, 2"),
            ("thirteen", "321", "bands must be a list"),
            ("thirteen", (1.5,), "bands must be whole numbers"),
        ],
    )
    def test_bands_that_cannot_be_shown(self, form, bands, words, bundles):
        with pytest.raises(UsageError) as error:
            Explainer(bundles(form), bands=bands)
        assert words in str(error.value)


class TestCommands:
    def test_arrays_of_every_kind_become_pictures(self, bundles, run, tmp_path, load_maps):
        tifffile, array, folder = pytest.importorskip("tifffile"), raw(13), tmp_path / "scenes"
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

    def test_without_bands_a_line_says_what_pictures_show(self, bundles, run, tmp_path):
        np.save(tmp_path / "a.npy", raw(13))
        status, _, err = run("explain", bundles("thirteen"), tmp_path / "a.npy", "-o", tmp_path / "out")
        assert status == 0
        assert "note: pictures show the mean of all bands as grey; choose one band or three with --bands" in err
        np.save(tmp_path / "b.npy", raw(1))
        assert run("explain", bundles("grey"), tmp_path / "b.npy", "-o", tmp_path / "out")[::2] == (0, "")

    @pytest.mark.parametrize("bands", ["3 2", "14", "a"])
    def test_bands_that_cannot_be_shown(self, bands, bundles, run, tmp_path, only_line):
        np.save(tmp_path / "a.npy", raw(13))
        asked = ["explain", bundles("thirteen"), tmp_path / "a.npy", "-o", tmp_path / "out", "--bands", *bands.split()]
        status, _, err = run(*asked)
        assert status == 2
        assert "bands" in only_line(err)

    def test_export_takes_numbers_for_every_channel(self, run, tmp_path):
        source = save_model(tmp_path / "m.onnx", 4)
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
    def test_preprocessing_of_another_number_of_channels(self, options, words, run, tmp_path, only_line):
        source = save_model(tmp_path / "m.onnx", 4)
        status, _, err = run("export", source, "-o", tmp_path / "m.fcam", *options)
        assert status == 2
        assert words in only_line(err)

    def test_what_is_assumed_is_said(self, run, tmp_path):
        for channels, words in (
            (1, "x = (pixel * 0.003922 - 0) / 1, grey, photos"),
            (4, "x = pixel, as they are, 4 bands"),
        ):
            source = save_model(tmp_path / "m.onnx", channels)
            _, _, err = run("export", source, "-o", tmp_path / "m.fcam")
            assert f"does not say how pictures are prepared: {words}" in err
            assert "assumed_preprocessing" in Explainer(tmp_path / "m.fcam").explain(raw(channels)).flags

    def test_evaluation_of_arrays(self, bundles, run, tmp_path):
        for seed in range(2):
            np.save(tmp_path / f"{seed}.npy", raw(4, seed))
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


class TestPhotos:
    """Grey models take photos, and models of bands say what they take."""

    def test_a_colour_photo_and_its_luma_are_the_same_to_a_grey_model(self, bundles, tmp_path):
        grey = Explainer(bundles("grey", preprocessing="unit"))
        pil = pytest.importorskip("PIL.Image")
        colours = (raw(3) // 40).clip(0, 255).astype(np.uint8)
        image = pil.fromarray(colours)
        image.save(tmp_path / "colour.png")
        image.convert("L").save(tmp_path / "grey.png")
        one, other = (grey.explain(tmp_path / name) for name in ("colour.png", "grey.png"))
        np.testing.assert_array_equal(one.maps["fusion_cam"], other.maps["fusion_cam"])
        np.testing.assert_array_equal(one.overlay(), other.overlay())

    def test_a_model_of_bands_refuses_a_photo(self, bundles, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ImageError, match=r"a.png' has 3 bands: the model takes 13 bands, an array \(H, W, 13\) or"):
            Explainer(bundles("thirteen")).explain(tmp_path / "a.png")


class TestService:
    def test_an_array_is_a_body_and_a_tensor_has_any_channels(self, bundles):
        explainer = Explainer(bundles("thirteen"))
        app = make_app(Service.of({"m": Batcher("m", lambda: explainer.pipeline)}, Settings(page=False)))

        def ask(method, path, **sent):
            async def asking():
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                    return await client.request(method, path, **sent)

            return asyncio.run(asking())

        file, array = io.BytesIO(), raw(13)
        np.save(file, array)
        expected = explainer.explain(array, 2)
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npz"}
        found = ask("POST", "/v2/models/m/infer?class=2", content=file.getvalue(), headers=headers)
        assert found.status_code == 200, found.text
        with np.load(io.BytesIO(found.content)) as maps:
            np.testing.assert_allclose(np.squeeze(maps["fusion_cam"]), expected.maps["fusion_cam"], atol=1e-6)
        panel = ask(
            "POST", "/v2/models/m/infer?picture=panel", content=file.getvalue(), headers={"Accept": "image/png"}
        )
        assert panel.content.startswith(b"\x89PNG")
        info = ask("GET", "/v2/models/m").json()
        assert next(i["shape"] for i in info["inputs"] if i["name"] == "image") == [-1, 13, *SIZE]
        x = np.zeros((1, 13, *SIZE), np.float32)
        tensor = {"name": "image", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
        assert ask("POST", "/v2/models/m/infer", json={"inputs": [tensor]}).status_code == 200
        tensor |= {"shape": [1, 3, *SIZE], "data": x[:, :3].ravel().tolist()}
        refused = ask("POST", "/v2/models/m/infer", json={"inputs": [tensor]})
        assert refused.status_code == 400
        assert "must be of shape (1, 13, 24, 20)" in refused.json()["error"]

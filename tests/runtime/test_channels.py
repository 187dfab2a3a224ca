"""Models of 1, 4 and 13 channels, from the export to the picture: maps, commands, arrays in files, the service."""

import asyncio
import io
import pickle

import cv2
import httpx
import numpy as np
import pytest
import torch

from fusioncam import Explainer, photos_in, read_bundle
from fusioncam.errors import ImageError, UsageError
from fusioncam.export import check
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

SIZE = (24, 20)
FORMS = ("grey", "four", "thirteen", "grey_last", "four_last")


def in_torch(x, weights, c):
    """The activations and the gradient of class c in float64."""
    weights = {name: torch.from_numpy(w.astype(np.float64)) for name, w in weights.items()}
    image = torch.from_numpy(x.astype(np.float64))[None]
    conv = torch.nn.functional.conv2d(image, weights["w"], weights["b"], stride=2, padding=1)
    features = conv.relu().detach().requires_grad_(True)
    (features.mean(dim=(2, 3)) @ weights["v"])[0, c].backward()
    return features.detach()[0].numpy(), features.grad[0].numpy()


@pytest.mark.parametrize("form", FORMS)
def test_maps_are_those_of_the_method_written_a_second_time(form, channels, bundles, oracle):
    count, _ = channels.FORMS[form]
    bundle, array = bundles(form), channels.raw(count)
    assert [f.what for f in check(bundle) if not f.ok] == []
    manifest = read_bundle(bundle)
    assert manifest.preprocessing.shape == (count, *SIZE)
    explanation = Explainer(bundle).explain(array, class_index=2)
    planes = torch.from_numpy(array.astype(np.float64)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, SIZE, mode="bilinear", antialias=True)[0].numpy()
    x = ((resized * 1e-4 - 0.1) / 0.5).astype(np.float32)
    activations, gradients = in_torch(x, channels.weights_of(count), 2)
    for method, expected in oracle(bundle).maps(x, 2, activations, gradients).items():
        np.testing.assert_allclose(explanation.maps[method], expected, atol=2e-4, err_msg=method)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_autograd(form, channels, bundles, run_graph):
    count, _ = channels.FORMS[form]
    x = np.random.default_rng(1).normal(size=(count, *SIZE)).astype(np.float32)
    found = run_graph(bundles(form) / "explain.onnx", {"image": x[None], "class_index": np.array([1])})
    activations, gradients = in_torch(x, channels.weights_of(count), 1)
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
    def test_float16_and_int8_give_nearly_the_same_maps(self, form, channels, bundles, tmp_path):
        count, _ = channels.FORMS[form]
        for seed in range(4):
            np.save(tmp_path / f"{seed}.npy", channels.raw(count, seed))
        options = {"fp16": {}, "int8": {"calibrate": photos_in(tmp_path), "accept_drift": True}}
        exact = Explainer(bundles(form)).explain(channels.raw(count, 9), 1)
        for precision, more in options.items():
            bundle = bundles(form, precision=precision, **more)
            found = Explainer(bundle).explain(channels.raw(count, 9), 1)
            assert np.abs(found.maps["grad_cam"] - exact.maps["grad_cam"]).max() < 1e-5
            correlation = np.corrcoef(found.maps["score_cam"].ravel(), exact.maps["score_cam"].ravel())[0, 1]
            assert correlation > 0.95, (precision, correlation)

    @pytest.mark.parametrize("form", ["grey", "thirteen"])
    def test_the_single_graph_gives_the_same_maps(self, form, channels, bundles, run_graph):
        count, _ = channels.FORMS[form]
        bundle = bundles(form, single=True)
        x = np.random.default_rng(2).normal(size=(count, *SIZE)).astype(np.float32)
        found = run_graph(bundle / "fusioncam.onnx", {"image": x[None], "class_index": np.array([3])})
        for method, saliency in Explainer(bundle).explain(x, 3).maps.items():
            np.testing.assert_allclose(found[method][0], saliency, atol=1e-5, err_msg=method)


class TestPictures:
    def test_panels_and_overlays_show_the_chosen_bands(self, channels, bundles):
        array, bundle = channels.raw(13), bundles("thirteen")
        shown = [Explainer(bundle, bands=bands).explain(array, 1) for bands in ((3, 2, 1), (5,), None)]
        panels = [explanation.panel() for explanation in shown]
        assert len({panel.tobytes() for panel in panels}) == 3
        assert [e.facts["Shown"] for e in shown] == ["bands 3, 2, 1", "band 5", "the mean of 13 bands"]
        for explanation in shown:
            assert explanation.overlay().shape == (48, 50, 3)
            np.testing.assert_array_equal(explanation.overlay(photo=array), explanation.overlay())
            np.testing.assert_array_equal(explanation.maps["fusion_cam"], shown[0].maps["fusion_cam"])
        with pytest.raises(UsageError, match="not the photo that was explained"):
            shown[0].overlay(photo=channels.raw(13, 5))

    def test_the_bundle_keeps_bands_and_an_explainer_may_be_sent(self, channels, bundles):
        bundle = bundles("four", preprocessing={**channels.REFLECTANCE, "shown_bands": (4, 2, 1)})
        assert Explainer(bundle).manifest.preprocessing.shown_bands == (4, 2, 1)
        sent = pickle.loads(pickle.dumps(Explainer(bundle, bands=(2,))))
        assert sent.explain(channels.raw(4)).facts["Shown"] == "band 2"

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


class TestPhotos:
    """Grey models take photos, and models of bands say what they take."""

    def test_a_colour_photo_and_its_luma_are_the_same_to_a_grey_model(self, channels, bundles, tmp_path):
        grey = Explainer(bundles("grey", preprocessing="unit"))
        pil = pytest.importorskip("PIL.Image")
        colours = (channels.raw(3) // 40).clip(0, 255).astype(np.uint8)
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
    def test_an_array_is_a_body_and_a_tensor_has_any_channels(self, channels, bundles):
        explainer = Explainer(bundles("thirteen"))
        app = make_app(Service.of({"m": Batcher("m", lambda: explainer.pipeline)}, Settings(page=False)))

        def ask(method, path, **sent):
            async def asking():
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                    return await client.request(method, path, **sent)

            return asyncio.run(asking())

        file, array = io.BytesIO(), channels.raw(13)
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

"""Sizes of the input that a request chooses."""

import base64
import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

OWN, OTHER, INFER = (24, 32), (40, 28), "/v2/models/m/infer"


def encoded(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def free(free_nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    export_model(free_nets.write(folder / "net.onnx", "resized"), folder / "any.fcam", size=("any", *OWN))
    with Explainer(folder / "any.fcam", budget="auto") as explainer:
        yield explainer


@pytest.fixture
def ask(client, free):
    """Asks the service about a photo, with parameters in the address."""
    batcher = Batcher("m", lambda: free.pipelines)
    asking = type(client)(make_app(Service.of({"m": batcher}, Settings(page=False))))

    def post(photo, **given):
        headers = {"Content-Type": "image/png", "Accept": given.pop("Accept", "application/json")}
        return asking.post(INFER, content=photo, headers=headers, params=given)

    yield post
    batcher.stop()


def maps(answer):
    assert answer.status_code == 200, answer.text
    return {o["name"]: np.array(o["data"], np.float32).reshape(o["shape"]) for o in answer.json()["outputs"]}


@pytest.mark.parametrize(("size", "of_map"), [("40x28", OTHER), ("40,28", OTHER), ("photo", (50, 46)), ("24x32", OWN)])
def test_a_request_chooses_the_size(ask, free, size, of_map):
    photo = encoded(50, 46)
    answer = maps(ask(photo, size=size, methods="fusion_cam,grad_cam"))
    expected = free.explain(photo, size=of_map)
    for method in ("fusion_cam", "grad_cam"):
        assert answer[method].shape == (1, *of_map)
        assert np.allclose(answer[method][0], expected.maps[method], atol=1e-6)
    assert maps(ask(photo, methods="grad_cam"))["grad_cam"].shape == (1, *OWN)


def test_pictures_are_drawn_at_their_size(ask, free):
    photo = encoded(50, 46)
    drawn = ask(photo, size="40x28", method="grad_cam", Accept="image/png")
    expected = free.explain(photo, size=OTHER).overlay("grad_cam", photo=photo)
    assert np.array_equal(cv2.imdecode(np.frombuffer(drawn.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], expected)
    unexplained = ask(photo, size="40x28", explain_if="probability < 0", methods="grad_cam")
    assert "not_explained" in unexplained.json()["parameters"]["flags"]


def test_a_json_request_names_the_size_as_a_list(client, free):
    batcher = Batcher("m", lambda: free.pipelines)
    asking = type(client)(make_app(Service.of({"m": batcher}, Settings(page=False))))
    x = np.random.default_rng(1).standard_normal((2, 3, *OTHER)).astype(np.float32)
    image = {"name": "image", "shape": [*x.shape], "datatype": "FP32", "data": x.ravel().tolist()}
    body = {"inputs": [image], "parameters": {"method": "grad_cam", "size": [*OTHER]}}
    assert maps(asking.post(INFER, json=body))["grad_cam"].shape == (2, *OTHER)
    photos = [base64.b64encode(encoded(*size)).decode() for size in ((30, 30), (30, 34))]
    several = {"name": "image_bytes", "shape": [2], "datatype": "BYTES", "data": photos}
    for inputs, size, words in (
        ([image], "photo", "a preprocessed picture has a size, not that of a photo"),
        ([several], "photo", "the photos have several sizes"),
        ([image], [40, 30], r"must be of shape (1, 3, 40, 30)"),
    ):
        answer = asking.post(INFER, json={"inputs": inputs, "parameters": {"method": "grad_cam", "size": size}})
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
    info = asking.get("/v2/models/m").json()
    assert next(i for i in info["inputs"] if i["name"] == "image")["shape"] == [-1, 3, -1, -1]
    known = json.loads(asking.get("/v2/models/m/config").text)["fusioncam"]
    assert known["free_size"] == {"step": [1, 1], "least": [1, 1]}
    batcher.stop()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("big", "the parameter size is 320x240 (H x W) or photo, not 'big'"),
        ("40", "the model takes sizes of 2 numbers"),
        ("0x30", "a height of 1 or more, not 0"),
        ("2000x2000", "a size of 2000 x 2000 is more than the 1048576 pixels"),
        ("2x2", "at a size of 2 x 2"),
    ],
)
def test_bad_sizes(ask, size, words):
    answer = ask(encoded(30, 30), size=size)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_model_of_one_size_says_so(client, told):
    answer = client.post(
        INFER, content=encoded(30, 30), headers={"Content-Type": "image/png"}, params={"size": "photo"}
    )
    assert answer.status_code == 400
    assert "for pictures of 24 x 32 only" in answer.json()["error"]
    assert not told.jobs


def test_engines_of_sizes_that_are_given_up_go(ask, free):
    for side in range(28, 28 + 4 * 6, 4):
        assert ask(encoded(60, 60), size=f"{side}x28", methods="grad_cam").status_code == 200
    assert len(free.pipelines.open_sizes) == 4

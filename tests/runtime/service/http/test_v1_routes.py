"""KServe's first protocol: instances in, predictions and explanations out."""

import base64
import json

import cv2
import numpy as np
import pytest

V1 = "/v1/models/m"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def b64(photo):
    return base64.b64encode(photo).decode()


def test_models_and_whether_they_are_ready(client, told):
    assert client.get("/v1/models").json() == {"models": ["m"]}
    assert client.get(V1).json() == {"name": "m", "ready": True}
    told.ready = False
    assert client.get("/v1/models").json() == {"models": []}
    assert client.get(V1).status_code == 503
    assert client.get("/v1/models/other").status_code == 404


def test_an_explanation_says_what_the_second_protocol_says(client, explainer, x):
    body = {
        "instances": [{"image": x.tolist(), "class_index": 2}],
        "parameters": {"methods": "grad_cam", "verify": True},
    }
    said = client.post(f"{V1}:explain", json=body).json()
    wanted = explainer.explain(x, 2)
    (explanation,), (prediction,) = said["explanations"], said["predictions"]
    np.testing.assert_array_equal(np.array(explanation["maps"]["grad_cam"], np.float32), wanted.maps["grad_cam"])
    assert list(explanation["maps"]) == ["grad_cam"]
    assert explanation["class_index"] == prediction["class_index"] == 2
    assert explanation["verdict"]["name"] in ("supported", "weak", "unsupported")
    assert {"label", "probability", "flags", "passes", "channels", "error", "seconds"} <= set(explanation)
    assert prediction["probability"] == pytest.approx(wanted.probability)
    assert len(prediction["probabilities"]) == 5


def test_a_prediction_makes_no_map(client, told, b64):
    body = {"instances": [{"image_bytes": {"b64": b64}}] * 2, "signature_name": "serving_default"}
    said = client.post(f"{V1}:predict", json=body).json()
    assert list(said) == ["predictions"]
    assert len(said["predictions"]) == 2
    assert said["predictions"][0] == said["predictions"][1]
    assert said["predictions"][0]["class_index"] == int(np.argmax(said["predictions"][0]["probabilities"]))
    assert told.jobs[0].methods == ("grad_cam",)  # the cheapest, without masked passes


@pytest.mark.parametrize("word", ["instances", "inputs"])
def test_a_photo_is_written_in_many_ways(client, told, b64, word):
    ways = [{"image_bytes": {"b64": b64}}, {"image": {"b64": b64}}, {"b64": b64}, {"image_bytes": b64}]
    assert client.post(f"{V1}:predict", json={word: ways}).status_code == 200
    for job in told.jobs[1:]:
        np.testing.assert_array_equal(job.image, told.jobs[0].image)
    assert len(told.jobs) == 4


def test_a_prediction_costs_no_map_whatever_the_request_says(client, told, b64):
    parameters = {"methods": "score_cam", "verify": True, "budget": "exact"}
    body = {"instances": [{"image_bytes": {"b64": b64}}], "parameters": parameters}
    for verb, asked in (("predict", (("grad_cam",), False)), ("explain", (("score_cam",), True))):
        assert client.post(f"{V1}:{verb}", json=body).status_code == 200
        assert (told.jobs[-1].methods, told.jobs[-1].verify) == asked


def test_arrays_need_no_name(client, told, x):
    assert client.post(f"{V1}:predict", json={"instances": [x.tolist()]}).status_code == 200
    np.testing.assert_array_equal(told.jobs[0].image, x)


def test_a_photo_alone_parameters_in_the_address_and_pictures(client, told, photo):
    explained = client.post(f"{V1}:explain?methods=layer_cam&class=3", content=photo, headers=JPEG).json()
    assert list(explained["explanations"][0]["maps"]) == ["layer_cam"]
    assert explained["predictions"][0]["class_index"] == 3
    assert len(client.post(f"{V1}:predict", content=photo, headers=JPEG).json()["predictions"]) == 1
    picture = client.post(f"{V1}:explain", files={"image": photo}, headers={"Accept": "image/png"})
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR).shape == (30, 40, 3)


def test_the_condition_of_the_service_holds_here_too(asking, b64):
    client = asking(explain_if="class in 2")
    body = {"instances": [{"image_bytes": {"b64": b64}, "class_index": c} for c in (1, 2)]}
    first, second = client.post(f"{V1}:explain?methods=grad_cam", json=body).json()["explanations"]
    assert first["maps"] == {}
    assert first["not_explained"].startswith("explain_if is class in 2, but the probability is ")
    assert list(second["maps"]) == ["grad_cam"]
    assert "not_explained" not in second
    assert len(client.post(f"{V1}:predict", json=body).json()["predictions"]) == 2


BAD = {
    "empty": ({"instances": []}, "instances: List should have at least 1 item"),
    "missing": ({}, "instances: Field required"),
    "unknown": ({"instances": [[1]], "more": 1}, "more: Extra inputs are not permitted"),
    "number": ({"instances": [1]}, "an instance is 1; an instance is a photo"),
    "members": ({"instances": [{"image_bytes": {"b64": ""}, "x": 1}]}, "members ['image_bytes', 'x']"),
    "other name": ({"instances": [{"picture": {"b64": ""}}]}, "members ['picture']"),
    "both": ({"instances": [{"b64": ""}, [[[0.0]]]]}, "send one kind at a time"),
    "shape": ({"instances": [[[0.0]]]}, "input 'image' must be of shape (1, 3, 24, 32)"),
    "flat": ({"instances": [[]]}, "FP32 numbers"),
    "deep": ({"instances": [json.loads("[" * 60 + "1" + "]" * 60)]}, "nested deeper"),
    "ragged": ({"instances": [{"image": [[[0], [0, 0]]]}]}, "must be a list of FP32 numbers"),
    "no base64": ({"instances": [{"b64": "?"}]}, "not base64"),
    "photo as number": ({"instances": [{"b64": 1}]}, "must be a list of texts"),
    "class": ({"instances": [{"b64": "", "class_index": "cat"}]}, "must be a list of INT64 numbers"),
    "parameter": ({"instances": [{"b64": ""}], "parameters": {"x": 1}}, "there is no parameter 'x'"),
    "list": ([], "the request: Input should be"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_bad_request_is_one_line(client, told, case, verb):
    body, words = BAD[case]
    answer = client.post(f"{V1}:{verb}", json=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]
    assert not told.jobs


def test_it_is_guarded(asking):
    client = asking(token="s3cret")
    assert client.get("/v1/models").status_code == client.post(f"{V1}:explain", json={}).status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_pictures_of_predictions_and_too_much_text_are_refused(client, monkeypatch, b64, photo):
    answer = client.post(f"{V1}:predict", content=photo, headers=JPEG | {"Accept": "image/png"})
    assert "shows maps: ask for a method" in answer.json()["error"]
    monkeypatch.setattr("fusioncam.runtime.service.http.answer_forms.MOST_NUMBERS", 24 * 32)
    answer = client.post(f"{V1}:explain", json={"instances": [{"b64": b64}] * 2})
    assert "1,536 numbers in JSON" in answer.json()["error"]

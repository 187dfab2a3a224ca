"""A detector's requests: its detections as tensors, JSON and pictures, and which of them are explained."""

import base64
import json

import numpy as np
import pytest

from fusioncam import Box, Detections, Explainer
from fusioncam.output import encode_png
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

FIGURES = ("class_index", "label", "detection_score", "box", "title", "detections")
GREY = encode_png(np.full((90, 120, 3), 120, np.uint8))


@pytest.fixture(scope="module")
def explainer(detector):
    return Explainer(detector, methods=["grad_cam"])


@pytest.fixture(scope="module")
def photo():
    return draw_scene(6, (192, 256), 3).image


@pytest.fixture(scope="module")
def found(explainer, photo):
    """A ring, a disc and a triangle, by their scores."""
    detections = explainer.detections(photo)
    assert [d.label for d in detections] == ["ring", "disc", "triangle"]
    return detections


@pytest.fixture(scope="module")
def client(explainer, new_client):
    metrics = Metrics()
    batcher = Batcher("d", lambda: explainer.pipeline, observer=metrics)
    yield new_client(make_app(Service.of({"d": batcher}, Settings(page=False), metrics)))
    batcher.stop()


@pytest.fixture(scope="module")
def file(photo):
    return encode_png(photo)


@pytest.fixture(scope="module")
def ask(client, file):
    """Asks about the photo by query, tensors and outputs; tensors of the answer by name, and its parameters."""

    def ask(query="", *tensors, outputs=(), status=200, files=(file,)):
        files = [base64.b64encode(f).decode() for f in files]
        inputs = [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)], "data": files}]
        for name, datatype, values in tensors:
            shape = list(np.shape(values))
            inputs.append({"name": name, "datatype": datatype, "shape": shape, "data": np.asarray(values).tolist()})
        sent = {"inputs": inputs, "outputs": [{"name": name} for name in outputs]}
        answer = client.post(f"/v2/models/d/infer{query}", json=sent)
        assert answer.status_code == status, answer.text[:500]
        if status != 200:
            assert "\n" not in answer.json()["error"]
            return answer.json()["error"]
        said = answer.json()
        tensors = {o["name"]: o["data"] if o["datatype"] == "BYTES" else np.reshape(o["data"], o["shape"])
                   for o in said["outputs"]}  # fmt: skip
        return tensors, said["parameters"]

    return ask


def holds(tensors, explanations):
    np.testing.assert_allclose(tensors["grad_cam"], [e.maps["grad_cam"] for e in explanations], atol=1e-6)
    np.testing.assert_allclose(tensors["score"], [e.score for e in explanations], rtol=1e-6)
    assert tensors["title"] == [e.title for e in explanations]
    assert tensors["label"] == [e.label for e in explanations]


def test_a_photo_is_answered_by_its_detections_with_a_map_each(ask, explainer, found, photo):
    tensors, parameters = ask("?methods=grad_cam")
    holds(tensors, [explainer.explain(photo, target=Box(box=d.box)) for d in found])
    np.testing.assert_allclose(tensors["box"], [d.box for d in found], rtol=1e-5)
    assert tensors["class_index"].tolist() == [d.class_index for d in found]
    assert [float(edge) for edge in parameters["box"].split(",")] == pytest.approx(found[0].box, abs=0.01)
    assert len(ask("?methods=grad_cam&most=2")[0]["score"]) == 2


def test_all_are_listed_without_a_map(ask, explainer, photo):
    every = explainer.detections(photo, conf=0.0005)
    assert len(every) > 10
    tensors, parameters = ask("?conf=0.0005", outputs=FIGURES)
    assert [json.loads(row) for row in tensors["detections"]] == [[d.summary()] for d in every]
    np.testing.assert_allclose(tensors["detection_score"], [d.score for d in every], rtol=1e-5)
    assert parameters["passes"] == 0


def test_where_nothing_is_detected_the_list_is_empty_and_a_map_is_refused(ask, client):
    tensors, _ = ask(outputs=FIGURES, files=(GREY,))
    assert {name: np.shape(values) for name, values in tensors.items() if name in ("label", "box", "title")} == {
        "label": (0,), "box": (0, 4), "title": (0,),
    }  # fmt: skip
    error = ask("?methods=grad_cam", status=400, files=(GREY,))
    assert error.startswith("no detection has a score of 0.25 or more: the best is ")
    inputs = [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(GREY).decode()]}]
    events = client.post("/v2/models/d/infer_stream", json={"inputs": inputs, "outputs": [{"name": "label"}]})
    assert (events.status_code, events.text.startswith("event: answer")) == (200, True), events.text


def test_a_photo_without_detections_leaves_the_others_their_answers(ask, client, explainer, file, photo):
    own, why = explainer.explain(photo), ask("?methods=grad_cam", status=400, files=(GREY,))
    for outputs in (("grad_cam", *FIGURES), FIGURES):  # lists would lose a row, too
        tensors, parameters = ask(outputs=outputs, files=(GREY, file))
        assert tensors["class_index"].tolist() == [-1, own.class_index]
        assert (tensors["title"], tensors["label"]) == ([why, own.title], ["", own.label])
        assert tensors["detection_score"].tolist() == [0, pytest.approx(own.detection.score)]
        np.testing.assert_allclose(tensors["box"], [(0, 0, 0, 0), own.box], rtol=1e-5)
        assert (parameters["not_explained"], parameters["flags"]) == (why, "nothing_detected")
        if "grad_cam" in outputs:
            assert 'fusioncam_not_explained_total{model="d",reason="nothing detected"}' in client.get("/metrics").text
            blank, _ = ask(outputs=outputs, files=(GREY, GREY))
            assert blank["grad_cam"].shape == (2, *own.maps["grad_cam"].shape)
            assert not blank["grad_cam"].any()
            np.testing.assert_allclose(tensors["grad_cam"], [0 * own.maps["grad_cam"], own.maps["grad_cam"]], atol=1e-6)


@pytest.mark.parametrize(
    ("query", "tensors", "targets"),
    [
        ("&detection=2,0", (), lambda d: [Box(box=d[2].box), Box(box=d[0].box)]),
        ("", [("detection", "INT64", [2, 0])], lambda d: [Box(box=d[2].box), Box(box=d[0].box)]),
        ("&class=disc&detection=0&by=both", (), lambda d: [Box("disc", by="both")]),
        ("&class=triangle", (), lambda d: [Box("triangle")]),
        ("", [("class_index", "INT64", [0, 1])], lambda d: [Box("disc"), Box("ring")]),
        ("&by=box", [("box", "FP32", [[170, 20, 240, 80], [20, 80, 110, 150]])],
         lambda d: [Box(box=d[2].box, by="box"), Box(box=d[0].box, by="box")]),
        ("&point=205,60", (), lambda d: [Box(point=(205, 60))]),
        ("&conf=0.9&together=true", (), lambda d: [Detections(conf=0.9)]),
    ],
)  # fmt: skip
def test_some_are_explained(ask, explainer, found, photo, query, tensors, targets):
    holds(
        ask(f"?methods=grad_cam{query}", *tensors)[0],
        [explainer.explain(photo, target=target) for target in targets(found)],
    )


def test_several_photos_have_their_best_detection_each(ask, explainer, found, file, photo):
    other = np.ascontiguousarray(photo[:, ::-1])
    tensors, _ = ask("?methods=grad_cam", files=(file, encode_png(other)))
    holds(tensors, [explainer.explain(photo), explainer.explain(other)])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("detection=7", "there is no detection 7: the picture has 3, from 0 on"),
        ("detection=a", "the parameter detection is numbers such as 0,3, not 'a'"),
        ("box=1,2,3", "the parameter box is x1,y1,x2,y2 in pixels of the photo, such as 40,60,200,300, not '1,2,3'"),
        ("box=9,9,3,20", "a box is (x1, y1, x2, y2) in pixels of the photo, x1 < x2 and y1 < y2, not"),
        ("box=0,0,9,9", "no detection overlaps the box (0, 0, 9, 9) by at least a half: the nearest is ring 0."),
        ("box=1,1,9,9&detection=0", "box and detection say different things of one target: give one of them"),
        ("class=rin", "no class is called 'rin'; did you mean 'ring'?"),
        ("class=star", "no detection of star has a score of 0.25 or more: the best is star 0.0"),
        ("conf=1.5", "conf must be a number from 0 to 1, not 1.5"),
        ("by=sides", "by is 'score' or 'box' or 'both', not 'sides'"),
        ("keypoint=nose", "this detector gives no keypoints: leave keypoint out"),
        ("most=0", "most must be a whole number, 1 to 300"),
        ("most=65", "maps of 65 targets are asked for, 64 are the most in a request"),
        ("most=2&detection=0", "most says how many detections are explained, and this request is about one"),
        ("peak=true", "peak does not fit a model that detects: it takes class_index, class, box, point, detection"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(ask, query, said):
    assert said in ask(f"?methods=grad_cam&{query}", status=400)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"detection": [], "picture": "panel"}, "the parameter detection is empty: give one or more"),
        ({"conf": []}, "the parameter conf is one value, not []"),
        ({"by": ["box"]}, "the parameter by is one value, not ['box']"),
    ],
)
def test_lists_of_json_that_name_nothing_or_too_much(client, file, parameters, said):
    data = [base64.b64encode(file).decode()]
    inputs = [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": data}]
    answer = client.post("/v2/models/d/infer", json={"inputs": inputs, "parameters": parameters})
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text


def test_a_panel_shows_all_and_an_overlay_one(client, explainer, file, photo):
    def draw(query):
        return client.post(f"/v2/models/d/infer?methods=grad_cam&{query}", files={"image": file})

    every, first = draw("picture=panel"), draw("picture=panel&detection=0")
    heights = [int.from_bytes(answer.content[20:24], "big") for answer in (every, first)]
    assert heights[0] > heights[1] + 400  # two rows more
    answer = draw("picture=overlay&detection=1")
    own = explainer.explain(photo, target=Box("disc"))
    assert answer.content == encode_png(own.overlay("grad_cam", photo))
    assert answer.headers["Fusioncam-Title"] == own.title
    assert answer.headers["Fusioncam-Box"] == ",".join(f"{edge:.2f}" for edge in own.box)


def test_the_first_protocol_lists_them(client, explainer, file, found, photo):
    def post(verb, instances, query=""):
        answer = client.post(f"/v1/models/d:{verb}{query}", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        return answer.json()

    instances = [{"image_bytes": {"b64": base64.b64encode(f).decode()}} for f in (file, GREY)]
    listed, none = post("predict", instances)["predictions"]
    why = "no detection has a score of 0.25 or more: the best is "
    assert (none.keys(), none["detections"], why in none["nothing_detected"]) == (
        {"detections", "nothing_detected"}, [], True,
    )  # fmt: skip
    assert [(d["label"], pytest.approx(d["box"])) for d in listed["detections"]] == [(d.label, d.box) for d in found]
    said = post("explain", [{**instances[0], "detection": 1}], "?methods=grad_cam")
    (explained,) = said["explanations"][0]["detections"]
    put = client.request("PUT", "/v1/models/d:predict", content=file, headers={"Content-Type": "image/png"})  # curl -T
    assert put.json()["predictions"] == [listed]
    both = post("explain", instances, "?methods=grad_cam&most=1")
    assert both["explanations"][1] == both["predictions"][1] == none
    assert both["predictions"][0]["detections"] == listed["detections"][:1]
    own = explainer.explain(photo, target=Box("disc"))
    np.testing.assert_allclose(explained["maps"]["grad_cam"], own.maps["grad_cam"], atol=1e-6)


def test_metadata_names_what_a_detector_takes(client):
    said = client.get("/v2/models/d").json()
    inputs = {t["name"]: t["shape"] for t in said["inputs"]}
    assert (inputs["box"], inputs["detection"]) == ([-1, 4], [-1])
    assert not {"region", "reference", "value"} & set(inputs)
    assert {"name": "box", "datatype": "FP32", "shape": [-1, 4]} in said["outputs"]
    assert client.get("/v2/models/d/config").json()["fusioncam"]["detector"]["conf"] == 0.25


def test_levels_are_the_detections_own_or_all(ask, explainer, photo):
    found = explainer.detections(photo, conf=0.005)
    n, coarse = next((n, d) for n, d in enumerate(found) if d.anchor >= 16 * 16)  # its level is not the first
    for levels, count in (("own", 1), ("mean", 2)):
        tensors, parameters = ask(f"?methods=grad_cam&detection={n}&conf=0.005&levels={levels}")
        own = explainer.explain(photo, target=Box(box=coarse.box, conf=0.005), levels=levels)
        holds(tensors, [own])
        assert parameters["layer"] == own.layer
        assert len(own.layers) == count
    assert ask("?methods=grad_cam&levels=all", status=400) == "levels is 'own' or 'mean', not 'all'"

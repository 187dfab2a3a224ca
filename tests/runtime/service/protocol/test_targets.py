"""Targets of requests: what a segmenter, heat maps, an embedding and a regression are asked, and what they answer."""

import base64
import io
import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, Like, Region, Value
from fusioncam.export import export_model
from fusioncam.output import encode_png
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

FIGURES = ("score", "confidence", "title", "area", "class_index")


@pytest.fixture(scope="module")
def explainers(target_bundle, make_tiny, tmp_path_factory):
    """By what the model does; `values` is a regression of five."""
    folder = tmp_path_factory.mktemp("values")
    export_model(make_tiny().network.write(folder / "m.onnx"), folder / "m.fcam", layer="layer", ending="value")
    bundles = {"segment": "segment", "heat": "value", "embed": "embed"}
    made = {name: Explainer(target_bundle(kind).bundle) for name, kind in bundles.items()}
    return {**made, "values": Explainer(folder / "m.fcam")}


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def ask(explainers, new_client):
    """Posts to a model; the answer, whose tensors are arrays or lists."""
    batchers = {name: Batcher(name, lambda e=e: e.pipeline) for name, e in explainers.items()}
    client = new_client(make_app(Service.of(batchers, Settings(page=False, budget="exact"))))

    def ask(model, path="infer", status=200, **sent):
        answer = client.post(f"/v2/models/{model}/{path}", **sent)
        assert answer.status_code == status, answer.text
        if status != 200:
            return answer.json()["error"]
        if answer.headers["content-type"] != "application/json":
            return answer
        said = answer.json()
        outputs = {o["name"]: o["data"] if o["datatype"] == "BYTES" else np.reshape(o["data"], o["shape"])
                   for o in said["outputs"]}  # fmt: skip
        return outputs, said["parameters"]

    ask.client = client
    yield ask
    for batcher in batchers.values():
        batcher.stop()


@pytest.fixture(scope="module")
def file(photo):
    return encode_png(photo)


@pytest.fixture(scope="module")
def body(file):
    """JSON of a request about the photo, by its other inputs, (name, datatype, values), and outputs."""

    def body(*inputs, outputs=(), pictures=1, **parameters):
        data = [base64.b64encode(file).decode()] * pictures
        tensors = [{"name": "image_bytes", "datatype": "BYTES", "shape": [pictures], "data": data}]
        for name, datatype, values in inputs:
            shape = [len(values)] if datatype == "BYTES" else list(np.shape(values))
            data = values if datatype == "BYTES" else np.asarray(values).tolist()
            tensors.append({"name": name, "datatype": datatype, "shape": shape, "data": data})
        return {"inputs": tensors, "outputs": [{"name": o} for o in outputs], "parameters": parameters}

    return body


def holds(outputs, explanations):
    """The answer has the maps and figures of explanations, row by row."""
    np.testing.assert_allclose(outputs["fusion_cam"], [e.maps["fusion_cam"] for e in explanations], atol=1e-6)
    np.testing.assert_allclose(outputs["score"], [e.score for e in explanations], rtol=1e-6)
    np.testing.assert_allclose(outputs["confidence"], [e.probability for e in explanations], rtol=1e-6)
    assert outputs["title"] == [e.title for e in explanations]
    assert outputs["class_index"].tolist() == [e.class_index for e in explanations]


def test_a_segmenter_explains_every_class_that_covers_enough(ask, explainers, body, photo):
    defaults = explainers["segment"].targets(photo)
    assert len(defaults) > 1
    outputs, parameters = ask("segment", json=body())
    found = [explainers["segment"].explain(photo, target=target) for target, _, _ in defaults]
    holds(outputs, found)
    np.testing.assert_allclose(outputs["area"], [e.target.region.mean() for e in found], rtol=1e-6)
    assert (parameters["title"], parameters["score"]) == (found[0].title, pytest.approx(found[0].score))
    assert "logits" not in outputs


def test_targets_are_listed_without_a_map_and_without_a_gradient(ask, explainers, body, photo, monkeypatch):
    monkeypatch.setattr(HostEngine, "forward", None)
    outputs, parameters = ask("segment", json=body(outputs=FIGURES))
    defaults = explainers["segment"].targets(photo)
    np.testing.assert_allclose(outputs["score"], [score for _, score, _ in defaults], rtol=1e-5)
    np.testing.assert_allclose(outputs["confidence"], [p for *_, p in defaults], rtol=1e-5)
    assert outputs["class_index"].tolist() == [target.class_ for target, *_ in defaults]
    assert parameters["passes"] == 0
    assert set(outputs) == set(FIGURES)


def test_a_point_picks_a_part_in_pixels_of_the_photo(ask, explainers, body, photo, file):
    found = explainers["segment"].explain(photo, target=Region(point=(9, 40)))
    expected = [found]
    outputs, _ = ask("segment", json=body(("point", "FP32", [9, 40])))
    holds(outputs, expected)
    holds(ask("segment", json=body(point=[9, 40]))[0], expected)
    query = {"content": file, "headers": {"Content-Type": "image/png"}}
    holds(ask("segment", "infer?point=9,40", **query)[0], expected)
    outputs, _ = ask("segment", "infer?point=9,40", files={"image": file})
    holds(outputs, expected)
    region, _ = ask("segment", json=body(point=[9, 40], outputs=["region"]))
    np.testing.assert_allclose(region["region"], [found.region_share], atol=1e-6)


def test_several_points_of_a_photo_are_rows(ask, explainers, body, photo):
    points = [[9, 40], [60, 3], [30, 20]]
    outputs, _ = ask("segment", json=body(("point", "FP32", points)))
    holds(outputs, [explainers["segment"].explain(photo, target=Region(point=p)) for p in points])


def test_photos_have_a_target_each_or_one_for_all(ask, explainers, body, photo):
    points = [[9, 40], [60, 3]]
    expected = [explainers["segment"].explain(photo, target=Region(point=p)) for p in points]
    holds(ask("segment", json=body(("point", "FP32", points), pictures=2))[0], expected)
    holds(ask("segment", json=body(("point", "FP32", points[:1]), pictures=2))[0], expected[:1] * 2)
    holds(ask("segment", json=body(pictures=2))[0], [explainers["segment"].explain(photo)] * 2)
    error = ask("segment", status=400, json=body(("point", "FP32", [*points, [1, 1]]), pictures=2))
    assert error == "3 targets for 2 pictures: give one for all, or one for each"


@pytest.mark.parametrize("way", ["tensor", "file", "form"])
def test_a_mask_is_a_region(ask, explainers, body, photo, file, way):
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[5:30, 10:50] = 1
    expected = [explainers["segment"].explain(photo, target=Region(1, mask=mask, peak=True))]
    png = cv2.imencode(".png", mask)[1].tobytes()
    if way == "form":
        sent = {"files": {"image": file, "region": png}, "data": {"class": "1", "peak": "true"}}
    elif way == "file":
        encoded = [base64.b64encode(png).decode()]
        sent = {"json": body(("region_bytes", "BYTES", encoded), **{"class": 1, "peak": True})}
    else:
        sent = {"json": body(("region", "FP32", mask), **{"class": 1, "peak": True})}
    holds(ask("segment", **sent)[0], expected)


def test_a_preprocessed_picture_has_pixels_of_its_own(ask, explainers, photo):
    x = np.random.default_rng(0).standard_normal((3, 24, 32)).astype(np.float32)
    image = {"name": "image", "datatype": "FP32", "shape": [1, 3, 24, 32], "data": x.ravel().tolist()}
    outputs, _ = ask("segment", json={"inputs": [image], "parameters": {"point": [31, 23]}})
    holds(outputs, [explainers["segment"].explain(x, target=Region(point=(31, 23)))])


@pytest.mark.parametrize("way", ["vector", "photo", "form", "npy"])
def test_an_embedding_is_compared(ask, explainers, body, photo, file, way):
    other = np.ascontiguousarray(photo[:, ::-1])
    vector = np.random.default_rng(1).standard_normal(6).astype(np.float32)
    if way in ("vector", "npy"):
        expected = explainers["embed"].explain(photo, target=Like(vector))
    else:
        expected = explainers["embed"].explain(photo, target=Like(other))
    png, npy = encode_png(other), _npy(vector)
    sent = {
        "vector": {"json": body(("reference", "FP32", vector))},
        "photo": {"json": body(("reference_bytes", "BYTES", [base64.b64encode(png).decode()]))},
        "form": {"files": {"image": file, "like": png}},
        "npy": {"files": {"image": file, "like": npy}},
    }[way]
    outputs, parameters = ask("embed", **sent)
    holds(outputs, [expected])
    assert parameters["probability"] == pytest.approx(expected.probability)


def _npy(vector):
    file = io.BytesIO()
    np.save(file, vector)
    return file.getvalue()


def test_an_embedding_without_a_reference_is_refused_in_one_line(ask, body):
    error = ask("embed", status=400, json=body())
    assert error.startswith("an embedding needs something to be compared with: send reference, a vector of 6 numbers")
    assert error == ask("embed", status=400, json=body(class_index=-1))


@pytest.mark.parametrize(
    ("model", "asked", "target"),
    [
        ("values", {"value": 2}, Value(2)),
        ("values", {"value": 1, "down": True}, Value(1, down=True)),
        ("values", {"class": 1}, Value(1)),
        ("heat", {"value": 1, "down": True}, Value(1, down=True)),
        ("heat", {"value": 1, "peak": True}, Region(1, peak=True)),
    ],
)
def test_values_go_up_or_down(ask, explainers, body, photo, model, asked, target):
    outputs, parameters = ask(model, json=body(**asked))
    found = explainers[model].explain(photo, target=target)
    np.testing.assert_allclose(outputs["fusion_cam"], [found.maps["fusion_cam"]], atol=1e-6)
    assert parameters["probability"] == pytest.approx(found.probability)
    if "class" not in asked:
        assert parameters["title"] == found.title


def test_heat_maps_are_all_explained_by_default(ask, explainers, body, photo):
    holds(ask("heat", json=body())[0], [explainers["heat"].explain(photo, target=Value(n)) for n in (0, 1)])


@pytest.mark.parametrize(
    ("model", "asked", "said"),
    [
        (
            "values",
            {"point": [1, 1]},
            "point does not fit a model that gives values: it takes class_index, class, value",
        ),
        ("segment", {"value": 1}, "value does not fit a model that segments: it takes class_index, class, point"),
        ("segment", {"point": "here"}, "the parameter point is x,y in pixels of the photo, such as 40,60, not 'here'"),
        ("segment", {"point": [100, 1]}, "the point (100, 1) lies outside of the photo: it has 64 x 48 pixels"),
        ("segment", {"peak": 1}, "the parameter peak must be true or false, not 1"),
        ("segment", {"class_index": 9}, "there is no class 9: the model has 4, 0 to 3"),
        ("values", {"value": 5}, "there is no value 5: the model gives 5, from 0 on"),
        ("values", {"value": 0, "class_index": 0}, "value and class_index say different things of one target"),
        ("heat", {"down": True, "peak": True}, "down goes with a value of the whole picture"),
        ("embed", {"class_index": 1}, "a model that gives an embedding has no classes"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(ask, body, model, asked, said):
    error = ask(model, status=400, json=body(**asked))
    assert said in error
    assert "\n" not in error


def test_tensors_of_another_shape_are_refused(ask, body):
    assert ask("segment", status=400, json=body(("region", "FP32", np.ones((9, 9))))).startswith("the mask has 9 x 9")
    assert "(2) or (R, 2)" in ask("segment", status=400, json=body(("point", "FP32", [[[1, 2]]])))
    assert "the embedding 6" in ask("embed", status=400, json=body(("reference", "FP32", np.ones(5))))
    two = body(("point", "FP32", [1, 1]), ("region", "FP32", np.ones((48, 64))))
    assert ask("segment", status=400, json=two).startswith("point and region say different things of one target")
    assert "does not fit this model" in ask("segment", status=400, json=body(outputs=["logits"]))


def test_conditions_look_at_the_confidence(ask, body):
    outputs, parameters = ask("segment", json=body(explain_if="never"))
    assert "fusion_cam" not in outputs
    assert outputs["explained"].tolist() == [0] * len(outputs["score"])
    assert parameters["passes"] == 0


def test_pictures_and_arrays_show_one_target(ask, explainers, photo, file):
    sent = {"files": {"image": file}}
    answer = ask("segment", headers={"Accept": "image/png"}, **sent)
    assert answer.content.startswith(b"\x89PNG")
    assert answer.headers["Fusioncam-Title"] == explainers["segment"].explain(photo).title
    answer = ask("segment", "infer?point=9,40", headers={"Accept": "application/x-npz"}, **sent)
    assert answer.headers["Fusioncam-Title"].endswith("at 9, 40")
    assert ask("segment", "infer?picture=panel&class=1", **sent).headers["Fusioncam-Class-Index"] == "1"


def test_events_end_in_all_targets(ask, explainers, photo, file):
    answer = ask("segment", "infer_stream", files={"image": file})
    *_, last = answer.text.strip().split("\n\n")
    kind, data = last.split("\n")
    assert kind == "event: answer"
    (fusion,) = [o for o in json.loads(data.removeprefix("data: "))["outputs"] if o["name"] == "fusion_cam"]
    expected = [
        explainers["segment"].explain(photo, target=target).maps["fusion_cam"]
        for target, *_ in explainers["segment"].targets(photo)
    ]
    assert fusion["shape"] == [len(expected), 24, 32]
    found = np.frombuffer(base64.b64decode(fusion["data"]), "<f4").reshape(fusion["shape"])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_first_protocol_takes_targets_beside_the_picture(ask, explainers, file, photo):
    instance = {"image_bytes": {"b64": base64.b64encode(file).decode()}}

    def post(model, verb, *beside):
        sent = {"instances": [{**instance, **named} for named in beside]}
        answer = ask.client.post(f"/v1/models/{model}:{verb}", json=sent)
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = explainers["segment"].explain(photo, target=Region(point=(9, 40)))
    said = post("segment", "explain", {"point": [9, 40]}, {"point": [60, 3]})
    np.testing.assert_allclose(said["explanations"][0]["maps"]["fusion_cam"], found.maps["fusion_cam"], atol=1e-6)
    assert said["predictions"][0]["title"] == found.title
    assert len(post("segment", "predict", {})["predictions"]) == 1
    vector = [1.0, -1.0, 0.5, 0.0, 0.0, 2.0]
    assert post("embed", "predict", {"reference": vector})["predictions"][0]["score"] == pytest.approx(
        explainers["embed"].explain(photo, target=Like(np.array(vector))).score, rel=1e-5
    )


def test_metadata_names_what_fits(ask):
    inputs = {t["name"]: t["shape"] for t in ask.client.get("/v2/models/segment").json()["inputs"]}
    assert {"class_index", "point", "region", "region_bytes"} < set(inputs)
    assert not {"value", "reference"} & set(inputs)
    said = ask.client.get("/v2/models/embed").json()
    assert {"name": "reference", "datatype": "FP32", "shape": [-1, 6]} in said["inputs"]
    assert {t["name"] for t in said["outputs"]} >= {"score", "confidence", "title"}
    assert not {t["name"] for t in said["outputs"]} & {"logits", "area", "region"}
    config = ask.client.get("/v2/models/segment/config").json()["fusioncam"]
    assert config["task"] == "segment"
    assert "point" in config["targets"]

"""model.py, run for real over the models that it was written with; only Triton itself is stood in for."""

import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.runtime.methods import METHODS

CODES = {"INTERNAL": 1, "INVALID_ARG": 3, "UNAVAILABLE": 4, "CANCELLED": 7}


def texts(*said):
    return np.array([s.encode() for s in said], object)


@pytest.fixture
def png():
    picture = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    return picture, cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def test_maps_are_those_of_the_explainer(front, bundle, pictures):
    methods = tuple(front.model.methods)
    found = front.ask({"image": np.stack(pictures), "class_index": np.array([-1, 2, 4]), "method": texts(*methods)})
    explainer = Explainer(bundle, methods=methods)
    for i, (x, c) in enumerate(zip(pictures, (None, 2, 4), strict=True)):
        wanted = explainer.explain(x, c)
        assert found["class_index"][i] == wanted.class_index
        assert found["probabilities"][i, wanted.class_index] == pytest.approx(wanted.probability, abs=1e-6)
        assert found["passes"][i] == wanted.passes.run
        assert found["flags"][i].decode() == ",".join(wanted.flags)
        for method in methods:  # score_cam_increase, without a softmax, and rise show more of how numbers are rounded
            near = 1e-6 if method in METHODS else 5e-5
            np.testing.assert_allclose(found[method][i], wanted.maps[method], atol=near, err_msg=method)


def test_scores_in_float16(backend, server, half, write, pictures):
    write(server.folder, half, form="bls", name="half", methods=("score_cam",))
    found = backend.Front(server, "half").ask({"image": pictures[0][None]})
    wanted = Explainer(half, methods=["score_cam"]).explain(pictures[0])
    np.testing.assert_allclose(found["score_cam"][0], wanted.maps["score_cam"], atol=1e-6)
    assert found["flags"][0].decode().split(",") == list(wanted.flags)
    assert {"no_gradient", "assumed_preprocessing"} <= set(wanted.flags)


def test_exact_passes_of_an_int8_bundle_go_to_the_explain_graph(backend, server, tiny_int8, write, pictures):
    write(server.folder, tiny_int8, form="bls", name="small", methods=("fusion_cam",))
    found = backend.Front(server, "small").ask({"image": pictures[0][None]})
    wanted = Explainer(tiny_int8).explain(pictures[0])
    np.testing.assert_allclose(found["fusion_cam"][0], wanted.maps["fusion_cam"], atol=1e-5)
    asked = [(name, count) for name, _, count in server.asked]
    assert [count for name, count in asked if name == "small_explain"] == [1, 2, 5, 1, 1]
    assert sum(count for name, count in asked if name == "small_score") == 9


def test_photos_are_decoded_and_prepared(front, bundle, png):
    picture, data = png
    found = front.ask({"image_bytes": np.array([data], object)}, ["fusion_cam", "logits"])
    assert set(found) == {"fusion_cam", "logits"}
    wanted = Explainer(bundle).explain(picture).maps["fusion_cam"]
    np.testing.assert_allclose(found["fusion_cam"][0], wanted, atol=1e-6)


def test_passes_go_out_in_chunks_to_the_same_version(front, server, pictures):
    front.ask({"image": pictures[0][None]})
    explain, *scores = server.asked
    assert explain == ("tiny_explain", 1, 1)
    assert {(name, version) for name, version, _ in scores} == {("tiny_score", 1)}
    assert max(count for _, _, count in scores) == 8
    assert sum(count for _, _, count in scores) == 9 + 4  # of 12 channels 2 are zero and 1 is constant


def test_several_requests_are_answered_each_by_itself(front, bundle, pictures):
    good, bad = ({"image": pictures[0][None]}, {"image": pictures[1][None] * np.float32(np.nan)})
    first, refused, last = front.responses(*(front.request(r, ["fusion_cam"]) for r in (good, bad, good)))
    assert refused.error().message().startswith("the input array holds NaN")
    maps = [r.output_tensors()[0].as_numpy() for r in (first, last)]
    np.testing.assert_array_equal(*maps)
    np.testing.assert_allclose(maps[0][0], Explainer(bundle).explain(pictures[0]).maps["fusion_cam"], atol=1e-6)


def test_what_is_asked_for_is_made_and_no_more(front, server, pictures):
    image = {"image": pictures[0][None]}
    figures = {"logits", "probabilities", "class_index", "passes", "flags"}
    assert set(front.ask(image)) == {"fusion_cam", *figures}
    assert set(front.ask({**image, "method": texts("layer_cam")})) == {"layer_cam", *figures}
    assert set(front.ask({**image, "method": texts("layer_cam")}, ["grad_cam", "layer_cam"])) == {
        "grad_cam",
        "layer_cam",
    }
    server.asked.clear()
    found = front.ask(image, ["probabilities", "grad_cam"])
    assert set(found) == {"probabilities", "grad_cam"}
    assert [name for name, _, _ in server.asked] == ["tiny_explain"]
    assert set(front.ask(image, ["class_index"])) == {"class_index"}


def test_parameters_say_the_same_as_inputs(front, pictures):
    image = {"image": pictures[0][None]}
    said = {"class_index": 3, "method": "score_cam, grad_cam", "budget": "7", "other": "kept out"}
    found = front.ask(image, parameters=json.dumps(said))
    inputs = {"class_index": np.array([3]), "method": texts("score_cam", "grad_cam"), "budget": texts("7")}
    wanted = front.ask({**image, **inputs})
    assert found.keys() == wanted.keys()
    assert found["class_index"] == 3
    assert found["passes"] == 7
    np.testing.assert_array_equal(found["score_cam"], wanted["score_cam"])


def test_deadlines(front, pictures):
    image = {"image": pictures[0][None]}
    exact, timed = (front.ask({**image, "budget": texts(budget)}) for budget in ("exact", "1000s"))
    assert exact["passes"] == timed["passes"]
    np.testing.assert_allclose(timed["fusion_cam"], exact["fusion_cam"], atol=1e-6)


def test_a_deadline_that_is_too_short_now_may_be_enough_later(front, pictures):
    said, code = front.ask({"image": pictures[0][None], "budget": texts("0.001ms")})
    assert said.startswith("a deadline of 0.001ms is too short for this model on this machine: ")
    assert code == CODES["UNAVAILABLE"]


BAD = {
    "no picture": ({}, "give the picture once: as input 'image', preprocessed, or as input 'image_bytes', a file"),
    "both": (
        {"image": np.zeros((1, 3, 24, 32), np.float32), "image_bytes": texts("x")},
        "give the picture once: as input 'image', preprocessed, or as input 'image_bytes', a file",
    ),
    "none of them": (
        {"image": np.zeros((0, 3, 24, 32), np.float32)},
        "there is no picture in the request: give one or more",
    ),
    "not a picture": ({"image_bytes": texts("no picture")}, "the picture is not of a supported format"),
    "empty": ({"image_bytes": texts("x", "")}, "picture 0 is not of a supported format"),
    "class": ({"class_index": np.array([5])}, "there is no class 5: the model has 5, 0 to 4"),
    "classes": (
        {"class_index": np.array([1, 2])},
        "2 class numbers for 1 pictures: give one for all, or one for each",
    ),
    "method": ({"method": texts("cam")}, "there is no output or method 'cam'; the methods are grad_cam, "),
    "head": ({"method": texts("recipro_cam")}, "there is no output or method 'recipro_cam'; the methods are "),
    "bytes": ({"method": np.array([b"\xff"], object)}, "there is no output or method '\N{REPLACEMENT CHARACTER}'; "),
    "budget": ({"budget": texts("-1")}, "no budget '-1'; use exact, auto, auto:0.01, a time"),
    "budgets": ({"budget": texts("auto", "auto")}, "input 'budget' must hold one budget, for all pictures"),
    "small": ({"budget": texts("3")}, "a budget of 3 passes is too small: 4 are needed besides those of channels"),
    "guess": (
        {"budget": texts("auto"), "method": texts("score_cam_probability")},
        "score_cam_probability needs the scores of all classes",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line(front, pictures, what):
    inputs, message = BAD[what]
    if inputs and not inputs.keys() & {"image", "image_bytes"}:
        inputs = {"image": pictures[0][None], **inputs}
    said, code = front.ask(inputs)
    assert said.startswith(message)
    assert "\n" not in said
    assert code == CODES["INVALID_ARG"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"class_index": "two"}, "the parameter class_index must be a whole number, not 'two'"),
        ({"class_index": 1}, "class_index is given as an input and as a parameter: give it once"),
        ({"budget": True}, "no budget True; use exact"),
        ({"method": 3}, "the parameter method must be names of methods, separated by commas"),
    ],
)
def test_bad_parameters_are_refused(front, pictures, said, message):
    inputs = {"image": pictures[0][None]} | ({"class_index": np.array([1])} if said == {"class_index": 1} else {})
    refused, code = front.ask(inputs, parameters=json.dumps(said))
    assert refused.startswith(message)
    assert code == CODES["INVALID_ARG"]


def test_a_part_that_fails_is_named(front, server, pictures):
    server.fail = "the GPU is gone"
    assert front.ask({"image": pictures[0][None]}) == (
        "tiny_explain cannot be run: the GPU is gone; see Triton's log",
        CODES["INTERNAL"],
    )


def test_a_cancelled_request_stops_between_chunks(front, server, pictures):
    assert front.ask({"image": np.stack(pictures)}, cancelled_after=1) == (
        "the request was cancelled",
        CODES["CANCELLED"],
    )
    assert sum(name == "tiny_score" for name, _, _ in server.asked) <= 1


def test_infinite_logits_are_an_error(front, server, pictures, monkeypatch):
    run = server.run

    def broken(name, version, outputs, feeds):
        found = run(name, version, outputs, feeds)
        if name == "tiny_score":
            found[0][0, 0] = np.inf
        return found

    monkeypatch.setattr(server, "run", broken)
    said, code = front.ask({"image": pictures[0][None]})
    assert said.startswith("the model gives NaN or infinite logits")
    assert code == CODES["INTERNAL"]

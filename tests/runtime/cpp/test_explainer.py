"""The C++ Explainer against plain onnxruntime on the same graph, with inputs that Python prepared."""

import shutil
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest

from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import preprocess

METHODS = ("fusion_cam", "grad_cam", "score_cam")
LABELS = ("tabby, tabby cat", "crane", "Möwe", "", "blank")
BLANK = 4


def in_python(path, x, class_index):
    """Outputs by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [*METHODS, "logits"]
    feeds = {"image": x[None], "class_index": np.array([class_index], np.int64)}
    return {name: array[0] for name, array in zip(names, session.run(names, feeds), strict=True)}


def compare(to, expected, ending="softmax"):
    """The arrays that the driver wrote against those of Python."""
    for name, array in expected.items():
        found = np.fromfile(f"{to}.{name}", np.float32).reshape(array.shape)
        np.testing.assert_allclose(found, array, atol=1e-5, rtol=0, err_msg=name)
    np.testing.assert_allclose(
        np.fromfile(f"{to}.probabilities"), probabilities(expected["logits"], ending), atol=1e-7, rtol=0
    )


@pytest.fixture
def photo(tmp_path):
    """A photo, and how the driver is told of it."""
    photo = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    photo.tofile(tmp_path / "photo")
    return photo, (tmp_path / "photo", *photo.shape[:2])


@pytest.mark.parametrize("index", [-1, 0, 2, 3])
def test_explains_a_photo_as_python_does(driver, graph, photo, tmp_path, index):
    path, preprocessing = graph
    pixels, told = photo
    expected = in_python(path, preprocess(pixels, preprocessing), index)
    found, title, flags = driver.done("photo", path, *told, index, tmp_path / "out").split("\t")
    compare(tmp_path / "out", expected)
    class_index = int(expected["logits"].argmax()) if index < 0 else index
    assert int(found) == class_index
    assert title == (LABELS[class_index] or f"class {class_index}")
    assert flags == ",".join(f"flat_{method}" for method in METHODS if not expected[method].any())
    for method in METHODS:
        at_photo = np.fromfile(tmp_path / f"out.{method}.photo", np.float32).reshape(pixels.shape[:2])
        exact = on_photo(expected[method], pixels.shape[:2], preprocessing)
        np.testing.assert_allclose(at_photo, exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [(), (1,)])
def test_explains_a_preprocessed_input(driver, graph, tmp_path, batch):
    path, _ = graph
    x = np.random.default_rng(1).standard_normal((3, 24, 32)).astype(np.float32)
    x.tofile(tmp_path / "x")
    driver.done("input", path, tmp_path / "x", 1, tmp_path / "out", *batch, *x.shape)
    compare(tmp_path / "out", in_python(path, x, 1))
    assert not (tmp_path / "out.fusion_cam.photo").exists()


@pytest.mark.parametrize("order", ["bands", (7, 1, 2, 9, 4)])
def test_bands_come_preprocessed(driver, make_graph, photo, tmp_path, order):
    """No photo has them; a blank input of them is not called dark."""
    preprocessing = Preprocessing(size=(24, 32), channel_order=order, mean=(0.5,) * 5, std=(1, 2, 3, 4, 5))
    path = make_graph(tmp_path / "graph.onnx", preprocessing)
    x = np.random.default_rng(1).standard_normal((5, 24, 32)).astype(np.float32)
    x.tofile(tmp_path / "x")
    driver.done("input", path, tmp_path / "x", 1, tmp_path / "out", *x.shape)
    compare(tmp_path / "out", in_python(path, x, 1))
    np.zeros_like(x).tofile(tmp_path / "x")
    assert "dark" not in driver.done("input", path, tmp_path / "x", 1, tmp_path / "out", *x.shape)
    found = driver.ask("input", path, tmp_path / "x", 1, tmp_path / "out", 3, 24, 32)
    assert (found[0], "a preprocessed float32 (5, 24, 32) array" in found[1]) == ("ImageError", True)
    assert driver.ask("photo", path, *photo[1], 1, tmp_path / "out") == (
        "ImageError",
        "the model takes bands, and not the colours of a photo: pass a preprocessed input of 5 channels",
    )


def test_a_blank_map_and_assumed_preprocessing_are_flagged(driver, graph, make_graph, photo, tmp_path):
    path = make_graph(tmp_path / "graph.onnx", graph[1], preprocessing_origin="assumed")
    _, _, flags = driver.done("photo", path, *photo[1], BLANK, tmp_path / "out").split("\t")
    assert flags == "flat_fusion_cam,flat_grad_cam,flat_score_cam,assumed_preprocessing"


@pytest.mark.parametrize(
    ("reach", "flagged"), [("reached", ""), ("out_of_reach", "logits_out_of_reach"), ("doubtful", "doubtful_logits")]
)
def test_logits_that_are_not_the_models_own_are_flagged(driver, graph, make_graph, photo, tmp_path, reach, flagged):
    path = make_graph(tmp_path / "graph.onnx", graph[1], reach=reach)
    _, _, *flags = driver.done("photo", path, *photo[1], -1, tmp_path / "out").split("\t")
    assert [f for f in flags if f] == [f for f in (flagged,) if f]


@pytest.mark.parametrize(("brightest", "dark"), [(64, True), (200, False)])
def test_a_picture_that_is_nearly_black_is_flagged(driver, graph, tmp_path, brightest, dark):
    np.full((30, 40, 3), brightest, np.uint8).tofile(tmp_path / "photo")
    _, _, flags = driver.done("photo", graph[0], tmp_path / "photo", 30, 40, 1, tmp_path / "out").split("\t")
    assert ("dark_picture" in flags.split(",")) == dark


@pytest.mark.parametrize("ending", ["logits", "softmax", "sigmoid", "value"])
@pytest.mark.parametrize("weight", [1.0, 3000.0])
def test_logits_become_probabilities_by_their_ending(driver, graph, make_graph, photo, tmp_path, ending, weight):
    path = make_graph(tmp_path / "graph.onnx", graph[1], ending=ending, weight=weight)
    driver.done("photo", path, *photo[1], -1, tmp_path / "out")
    compare(tmp_path / "out", {"logits": np.fromfile(tmp_path / "out.logits", np.float32)}, ending)


def test_a_folder_that_holds_the_graph_is_a_bundle(driver, graph, tmp_path):
    shutil.copy(graph[0], tmp_path / "fusioncam.onnx")
    assert driver.done("open", tmp_path) == "(24, 32) softmax a"


def test_threads_share_an_explainer(driver, graph, photo):
    assert driver.done("threads", graph[0], *photo[1]) == "80 of 80 equal"


def test_a_run_can_be_ended(driver, graph, photo):
    kind, text = driver.ask("late", graph[0], *photo[1])
    assert kind == "DeadlineError"
    assert text == "the explanation was ended before it was done, by SetTerminate; give it more time"


def test_a_graph_of_the_export_says_the_same_as_in_python(driver, exported, photo, tmp_path):
    """One real graph, with its Loop."""
    path, preprocessing = exported
    driver.done("photo", path, *photo[1], 2, tmp_path / "out")
    compare(tmp_path / "out", in_python(path, preprocess(photo[0], preprocessing), 2))


def test_stand_ins_say_the_same_of_themselves_as_exported_graphs(graph, exported):
    """Or what else is tested here would mean nothing."""
    first, second = ({p.key for p in onnx.load(path).metadata_props} for path in (graph[0], exported[0]))
    assert {key for key in second if key.startswith("fusioncam.")} <= first
    assert first - second <= {"fusioncam.labels"}
    for one, other in pairwise(onnx.load(path).graph for path in (graph[0], exported[0])):
        assert {v.name for v in (*one.input, *one.output)} == {v.name for v in (*other.input, *other.output)}

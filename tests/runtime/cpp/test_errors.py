"""Whatever a user can do wrong ends in one exception, of the kind and with the text that Python has for it."""

import numpy as np
import onnx
import onnxruntime
import pytest

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.manifest import read_bundle
from fusioncam.runtime.arguments import checked_class
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.picture import overlay
from fusioncam.runtime.sessions.open import open_session
from fusioncam.runtime.sessions.run import run


def in_python(call):
    """The kind and text of the error that Python raises."""
    with pytest.raises(FusionCamError) as error:
        call()
    return type(error.value).__name__, str(error.value)


@pytest.fixture
def told(tmp_path):
    """A small photo, as the driver is told of it."""
    np.zeros((4, 5, 3), np.uint8).tofile(tmp_path / "photo")
    return tmp_path / "photo", 4, 5


@pytest.mark.parametrize("index", [5, -2, 2**62, -(2**63)])
def test_no_such_class(driver, graph, told, tmp_path, index):
    assert driver.ask("photo", graph[0], *told, index, tmp_path / "out") == in_python(lambda: checked_class(index, 5))


@pytest.mark.parametrize("shape", [(3, 24, 31), (1, 3, 32, 24), (2, 3, 24, 32), (24,), (0,), (3, -24, -32)])
def test_input_of_another_shape(driver, graph, tmp_path, shape):
    np.zeros(10, np.float32).tofile(tmp_path / "x")
    found = driver.ask("input", graph[0], tmp_path / "x", -1, tmp_path / "out", *shape)
    if min(shape) >= 0:
        assert found == in_python(lambda: as_input(np.zeros(shape, np.float32), graph[1]))
    assert found[0] == "ImageError"
    assert f"a float32 array of shape {shape}:" in found[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_in_the_input(driver, graph, tmp_path, bad):
    x = np.zeros((3, 24, 32), np.float32)
    x[2, 23, 31] = bad
    x.tofile(tmp_path / "x")
    found = driver.ask("input", graph[0], tmp_path / "x", -1, tmp_path / "out", *x.shape)
    assert found == in_python(lambda: as_input(x, graph[1]))


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_empty_photo(driver, graph, tmp_path, size):
    (tmp_path / "empty").write_bytes(b"")
    found = driver.ask("photo", graph[0], tmp_path / "empty", *size, -1, tmp_path / "out")
    assert found == in_python(lambda: as_input(np.zeros((*size, 3), np.uint8), graph[1]))


@pytest.mark.parametrize(
    ("what", "shape"),
    [
        ("null", "uint8 array of shape (4, 5, 3)"),
        ("none", "uint8 array of shape (0, 0, 3)"),
        ("flat", "uint8 array of shape (0, 5, 3)"),
        ("huge", f"uint8 array of shape ({2**64 - 1}, {2**64 - 1}, 3)"),
        ("wide", "uint8 array of shape (1, 100000001, 3)"),
        ("no values", "float32 array of shape (3, 24, 32)"),
    ],
)
def test_buffers_that_are_not_there_or_cannot_be(driver, graph, what, shape):
    kind, text = driver.ask("nothing", graph[0], what)
    assert (kind, text.split(":")[0]) == ("ImageError", f"cannot explain a {shape}")


def test_photo_whose_bytes_are_not_those_of_its_size(driver, graph, tmp_path):
    (tmp_path / "photo").write_bytes(b"123")
    for size in ((4, 5), (0, 5), (2**63 - 1, 2**63 - 1), (2**62, 4)):
        kind, text = driver.ask("photo", graph[0], tmp_path / "photo", *size, -1, tmp_path / "out")
        assert (kind, text) == (
            "ImageError",
            f"a photo of {size} pixels cannot have 3 bytes: give it 3 for each pixel",
        )


def test_no_such_map(driver, graph, told):
    blank = np.zeros((24, 32), np.float32)
    maps = dict.fromkeys(("fusion_cam", "grad_cam", "score_cam"), blank)
    found = Explanation(maps, 0, None, 0.0, (), Passes(0, 0), {})
    assert driver.ask("map", graph[0], *told, "it's_cam") == in_python(lambda: found.on_photo("it's_cam"))
    assert driver.ask("photo_of_input", graph[0]) == in_python(lambda: found.on_photo("fusion_cam"))


def test_map_of_another_size(driver, graph, tmp_path):
    np.zeros((24, 32), np.float32).tofile(tmp_path / "map")
    found = driver.ask("on_photo", graph[0], tmp_path / "map", 0, 7, tmp_path / "out")
    assert found == in_python(lambda: on_photo(np.zeros((24, 32), np.float32), (0, 7), graph[1]))
    np.zeros((2, 2), np.float32).tofile(tmp_path / "map")
    assert driver.ask("on_photo", graph[0], tmp_path / "map", 4, 7, tmp_path / "out")[0] == "UsageError"


def test_overlay_that_cannot_be(driver, told, tmp_path):
    photo = np.zeros((4, 5, 3), np.uint8)
    blank = np.zeros((4, 5), np.float32)
    blank.tofile(tmp_path / "map")
    found = driver.ask("overlay", *told, tmp_path / "map", 101, "plasma", tmp_path / "out")
    assert found == in_python(lambda: overlay(photo, blank, opacity=1.01))
    blank[:2].tofile(tmp_path / "map")
    kind, text = driver.ask("overlay", *told, tmp_path / "map", 70, "plasma", tmp_path / "out")
    assert kind == UsageError.__name__
    assert "bring it to the photo's size first" in text


def test_logits_that_are_no_numbers(driver, graph, make_graph, tmp_path):
    path = make_graph(tmp_path / "nan.onnx", graph[1], weight=np.inf)
    np.ones((3, 24, 32), np.float32).tofile(tmp_path / "x")
    found = driver.ask("input", path, tmp_path / "x", 0, tmp_path / "out", 3, 24, 32)
    assert found == in_python(lambda: refuse_nan(np.array([np.nan]), "logits"))


def test_graph_that_fails_to_run(driver, graph, make_graph, tmp_path):
    path = make_graph(tmp_path / "fails.onnx", graph[1], fails=True)
    x = np.ones((3, 24, 32), np.float32)
    x.tofile(tmp_path / "x")
    found = driver.ask("input", path, tmp_path / "x", 3, tmp_path / "out", *x.shape)
    feeds = {"image": x[None], "class_index": np.array([3], np.int64)}
    assert found == in_python(lambda: run(open_session(path), ["logits", "fusion_cam"], feeds))


def test_no_bundle(driver, tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "no\x01where.onnx"):
        assert driver.ask("open", path) == in_python(lambda path=path: read_bundle(path))


def test_a_bundle_without_the_graph_says_how_to_get_it(driver, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert driver.ask("open", tmp_path) == (
        "BundleError",
        f"{tmp_path} lacks fusioncam.onnx; export the model again, with --single",
    )


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_truncated_graph(driver, graph, tmp_path, share):
    data = graph[0].read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    found = driver.ask("open", path)
    assert found[0] == "BundleError"
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        assert found == in_python(lambda: open_session(path))


def test_another_model_is_no_graph_of_ours(driver, tmp_path, make_model):
    kind, text = driver.ask("open", make_model(tmp_path / "other.onnx"))
    assert kind == "BundleError"
    assert text == (
        f"{tmp_path / 'other.onnx'} is no graph of fusioncam's: it has no fusioncam.schema_version; "
        "make one with `fusioncam export --single`"
    )


BAD = [
    ("schema_version", "4"),
    ("size", "24"),
    ("size", "0 32"),
    ("size", "24 32 3"),
    ("size", "-24 32"),
    ("size", "24,0 32"),
    ("size", "99999999999999999999 32"),
    ("size", ""),
    ("channel_order", "RGB"),
    ("rescale", "0"),
    ("rescale", "0,5"),
    ("rescale", "1e999"),
    ("mean", "nan nan nan"),
    ("mean", "0.5 0.5"),
    ("mean", "0.5 0.5 0.5x"),
    ("std", "1.0 0.0 1.0"),
    ("std", "inf 1 1"),
    ("resize", "stretch"),
    ("crop_fraction", "0"),
    ("crop_fraction", "1.5"),
    ("crop_rounding", "up"),
    ("interpolation", "area"),
    ("interpolation", "cv2-linear"),
    ("preprocessing_origin", "me"),
    ("classes", "0"),
    ("classes", "five"),
    ("ending", "tanh"),
    ("reach", "far"),
    ("ending", "x" * 1000 + "\n"),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_metadata_that_makes_no_sense(driver, graph, make_graph, tmp_path, key, value):
    kind, text = driver.ask("open", make_graph(tmp_path / "bad.onnx", graph[1], **{key: value}))
    assert kind == "BundleError"
    shown = value if len(value) <= 60 else value[:60] + "..."
    assert text == (
        f"{tmp_path / 'bad.onnx'} cannot be read or is of another version (its fusioncam.{key} is {shown!r}); "
        "export the model again, with --single"
    )


@pytest.mark.parametrize("key", ["size", "mean", "ending", "layer", "source_sha256", "preprocessing_origin"])
def test_metadata_that_is_missing(driver, graph, make_graph, tmp_path, key):
    kind, text = driver.ask("open", make_graph(tmp_path / "bad.onnx", graph[1], **{key: None}))
    assert kind == "BundleError"
    assert f"does not say its fusioncam.{key}; export the model again" in text


def test_labels_of_another_number(driver, graph, make_graph, tmp_path):
    kind, text = driver.ask("open", make_graph(tmp_path / "bad.onnx", graph[1], labels="a\nb"))
    assert kind == "BundleError"
    assert "has 2 labels for 5 classes" in text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": "32 24"}, "its input image is float32 (1, 3, 24, 32), not float32 (1, 3, 32, 24)"),
        ({"classes": "6", "labels": None}, "its output logits is float32 (1, 5), not float32 (1, 6)"),
    ],
)
def test_metadata_that_does_not_fit_the_graph(driver, graph, make_graph, tmp_path, changed, told):
    kind, text = driver.ask("open", make_graph(tmp_path / "bad.onnx", graph[1], **changed))
    assert kind == "BundleError"
    assert told in text


def test_another_interface(driver, graph, tmp_path):
    model = onnx.load(graph[0])
    del model.graph.output[1]
    onnx.save(model, tmp_path / "bad.onnx")
    kind, text = driver.ask("open", tmp_path / "bad.onnx")
    assert kind == "BundleError"
    assert "its output grad_cam is missing" in text

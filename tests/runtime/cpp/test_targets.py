"""Regions and likenesses in C++: against plain onnxruntime on the same graph, with inputs that Python prepared."""

import subprocess

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from fusioncam.errors import UsageError
from fusioncam.export import export_model, single_graph
from fusioncam.manifest import read_bundle
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.picture import overlay
from fusioncam.runtime.targets.kinds import Like, Region
from fusioncam.runtime.targets.sight import Outputs, Sight
from fusioncam.runtime.targets.tasks import checked_target, resolve

METHODS = ("fusion_cam", "grad_cam", "score_cam")
SIZE = (40, 61)
MASK = np.zeros(SIZE, np.uint8)
MASK[7:23, 20:47] = 1
REFERENCE = np.linspace(-1, 2, 6, dtype=np.float32)
# By kind of model: a target as the driver is told of it (kind, class, peak, file), and in Python.
TARGETS = {
    "where it wins": ("segment", ("class", 1, 0, ""), Region(1)),
    "the class that covers most": ("segment", ("class", -1, 0, ""), Region()),
    "its peak": ("segment", ("region", -1, 1, ""), Region(peak=True)),
    "a mask": ("segment", ("region", 2, 0, "mask"), Region(2, MASK)),
    "the class of a mask": ("segment", ("region", -1, 0, "mask"), Region(mask=MASK)),
    "the peak of a value": ("value", ("region", 1, 1, "mask"), Region(1, MASK, peak=True)),
    "the highest value": ("value", ("region", -1, 0, ""), Region()),
    "a likeness": ("embed", ("like", -1, 0, "reference"), Like(REFERENCE)),
}
WAYS = ({}, {"resize": "crop", "crop_fraction": 0.8}, {"resize": "crop_first", "crop_fraction": 0.9})


@pytest.fixture(scope="module")
def single(target_bundle, tmp_path_factory):
    """The folder of a bundle with its single graph."""
    made = {}

    def single(kind, **preprocessing):
        key = (kind, *sorted(preprocessing.items()))
        if key not in made:
            network, bundle = target_bundle(kind)
            prep = read_bundle(bundle).preprocessing.model_copy(update=preprocessing)
            made[key] = tmp_path_factory.mktemp(kind) / "t.fcam"
            options = {"preprocessing": prep.model_dump(exclude={"size", "origin"}), "task": network.task}
            export_model(bundle.with_suffix(".onnx"), made[key], layer="layer", **options)
            (made[key] / "fusioncam.onnx").write_bytes(single_graph(made[key]))
        return made[key]

    return single


@pytest.fixture
def photo(tmp_path):
    """A photo, and how the driver is told of it."""
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    photo.tofile(tmp_path / "photo")
    MASK.tofile(tmp_path / "mask")
    REFERENCE.tofile(tmp_path / "reference")
    return photo, (tmp_path / "photo", *SIZE)


def opened(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(feeds):
        feeds = {name: np.asarray(value)[None] for name, value in feeds.items()}
        return {o.name: a[0] for o, a in zip(session.get_outputs(), session.run(None, feeds), strict=True)}

    return run


def in_python(bundle, photo, target):
    """The tensors of the target by Python's runtime, and what the single graph gives for them."""
    manifest, explain = read_bundle(bundle), opened(bundle / "explain.onnx")
    placeholders = {name: rows[0] for name, rows in manifest.form.placeholders(1).items()}
    sight = Sight(
        manifest, x := preprocess(photo, manifest.preprocessing), photo.shape[:2],
        lambda x: Outputs(explain({"image": x, **placeholders})[manifest.form.output.name]),
    )  # fmt: skip
    tensors = resolve(checked_target(manifest, target), sight).tensors
    return tensors, opened(bundle / "fusioncam.onnx")({"image": x, **tensors})


def told_of(target, tmp_path, size=SIZE):
    word, index, peak, file = target
    return word, index, peak, file and tmp_path / file, *size


@pytest.mark.parametrize("case", TARGETS)
def test_explains_a_target(case, driver, single, photo, tmp_path):
    kind, given, target = TARGETS[case]
    bundle = single(kind)
    tensors, expected = in_python(bundle, photo[0], target)
    told = driver.done("target", bundle, *photo[1], *told_of(given, tmp_path), tmp_path / "out")
    for name in (*METHODS, *{"logits", "embedding"} & expected.keys()):
        found = np.fromfile(tmp_path / f"out.{name}", np.float32).reshape(expected[name].shape)
        np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)
    if "region" in tensors:
        region = np.fromfile(tmp_path / "out.explained_region", np.float32).reshape(12, 16)
        np.testing.assert_allclose(region, tensors["region"], atol=1e-6)
    scores = expected["scores"], expected["confidences"]
    np.testing.assert_allclose(np.fromfile(tmp_path / "out.scores"), scores, atol=1e-5)
    c, title, flags = told.split("\t")
    assert int(c) == tensors.get("class_index", -1)
    titles = {"segment": f"class {c}", "value": f"value {c}", "embed": "like a vector"}
    assert (title, flags) == (titles[kind], "")


@pytest.mark.parametrize("way", WAYS)
def test_masks_take_the_way_of_the_photo(way, driver, single, photo, tmp_path):
    bundle = single("segment", **way)
    rng = np.random.default_rng(4)
    for size in ((40, 61), (24, 32), (9, 7), (200, 31)):
        shape = rng.integers(0, 256, (*size, 3), np.uint8)
        mask = (rng.random(size) < 0.3).astype(np.uint8)
        shape.tofile(tmp_path / "shape")
        mask.tofile(tmp_path / "mask")
        given = told_of(("region", 1, 0, "mask"), tmp_path, size)
        driver.done("target", bundle, tmp_path / "shape", *size, *given, tmp_path / "out")
        region = np.fromfile(tmp_path / "out.explained_region", np.float32).reshape(12, 16)
        wanted = in_python(bundle, shape, Region(1, mask))[0]["region"]
        np.testing.assert_allclose(region, wanted, atol=1e-6, err_msg=str(size))


def test_a_reference_of_another_picture(driver, single, photo, tmp_path):
    bundle = single("embed")
    driver.done("embed", bundle, *photo[1], tmp_path / "vector")
    wanted = in_python(bundle, photo[0], Like(REFERENCE))[1]["embedding"]
    np.testing.assert_allclose(np.fromfile(tmp_path / "vector", np.float32), wanted, atol=1e-6)
    given = told_of(("like", -1, 0, "vector"), tmp_path)
    driver.done("target", bundle, *photo[1], *given, tmp_path / "out")
    assert np.fromfile(tmp_path / "out.scores")[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shape", [(6,), (1, 6), (0,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_of_numpy(driver, tmp_path, shape, dtype):
    vector = np.random.default_rng(0).normal(size=shape).astype(dtype)
    np.save(tmp_path / "vector.npy", vector)
    assert driver.done("vector", tmp_path / "vector.npy", tmp_path / "out") == str(vector.size)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.float32), vector.ravel().astype(np.float32))


BROKEN = {
    "is no NumPy array: save the vector with numpy.save": [b"", b"no array", b"\x93NUMPY\x01\x00\xff\xff"],
    "holds no vector of numbers: save float32 or float64 of shape (D,)": [
        np.zeros((2, 3), np.float32), np.zeros(3, np.int64), np.zeros((), np.float32), np.array(["a"]),
    ],
    "is cut short, or longer than it says: save the vector again": [-1, b"\0"],
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_files_that_are_no_vector(driver, tmp_path, text):
    path = tmp_path / "vector.npy"
    for broken in BROKEN[text]:
        np.save(path, broken if isinstance(broken, np.ndarray) else np.zeros(3, np.float32))
        if isinstance(broken, bytes):
            path.write_bytes(path.read_bytes() + broken if "longer" in text else broken)
        elif isinstance(broken, int):
            path.write_bytes(path.read_bytes()[:broken])
        assert driver.ask("vector", path, tmp_path / "out") == ("UsageError", f"{str(path)!r} {text}")
    kind, said = driver.ask("vector", tmp_path / "nowhere.npy", tmp_path / "out")
    assert (kind, said.startswith("there is no picture")) == ("ImageError", True)


@pytest.fixture
def refusals(driver, single, photo, tmp_path):
    """What C++ and Python say to a target: a kind of error and a text, each."""

    def refusals(kind, given, target, size=SIZE, **way):
        bundle = single(kind, **way)
        with pytest.raises(UsageError) as error:
            in_python(bundle, photo[0], target)
        asked = told_of(given, tmp_path, size)
        return driver.ask("target", bundle, *photo[1], *asked, tmp_path / "out"), ("UsageError", str(error.value))

    return refusals


BAD = {
    "another size": ("segment", ("region", 1, 0, "mask"), Region(1, MASK[:-1]), MASK[:-1], {}),
    "empty": ("segment", ("region", 1, 0, "mask"), Region(1, 0 * MASK), 0 * MASK, {}),
    "cropped away": ("segment", ("region", 1, 0, "mask"), Region(1, np.eye(*SIZE) == 2), None, {}),
    "no such class": ("segment", ("region", 4, 0, ""), Region(4), None, {}),
    "no such value": ("value", ("region", 2, 0, ""), Region(2), None, {}),
    "another length": ("embed", ("like", -1, 0, "reference"), Like(REFERENCE[:5]), REFERENCE[:5], {}),
    "no direction": ("embed", ("like", -1, 0, "reference"), Like(0 * REFERENCE), 0 * REFERENCE, {}),
    "no numbers": ("embed", ("like", -1, 0, "reference"), Like(REFERENCE * np.nan), REFERENCE * np.nan, {}),
    "a class of an embedding": ("embed", ("class", 2, 0, ""), 2, None, {}),
}


@pytest.mark.parametrize("case", BAD)
def test_targets_that_cannot_be_are_refused_as_in_python(case, refusals, photo, tmp_path):
    kind, given, target, array, way = BAD[case]
    if case == "cropped away":
        array, way = np.zeros(SIZE, np.uint8), {"resize": "crop"}
        array[:, 0] = 1
        target = Region(1, array)
    if array is not None:
        array.tofile(tmp_path / given[3])
    size = array.shape if given[3] == "mask" else SIZE
    assert (lambda said: said[0] == said[1] or pytest.fail(str(said)))(refusals(kind, given, target, size, **way))


def test_targets_that_do_not_fit_the_model(driver, single, exported, photo, tmp_path):
    def ask(bundle, given):
        return driver.ask("target", bundle, *photo[1], *told_of(given, tmp_path), tmp_path / "out")

    region, like = ("region", 1, 0, ""), ("like", -1, 0, "reference")
    for bundle, given, text in (
        (exported[0], region, "Region does not fit a model that classifies: use Class"),
        (exported[0], like, "Like does not fit a model that classifies: use Class"),
        (single("segment"), like, "Like does not fit a model that segments: use Class or Region"),
        (single("value"), like, "Like does not fit a model that gives heat maps: use Class or Region"),
        (single("embed"), region, "Region does not fit a model that gives an embedding: use Like"),
        (
            single("embed"), ("class", -1, 0, ""),
            "an embedding needs a reference to be compared with: name one, Like{vector}",
        ),
    ):  # fmt: skip
        assert ask(bundle, given) == ("UsageError", text)
    kind, text = driver.ask("embed", single("segment"), *photo[1], tmp_path / "out")
    assert (kind, text[:40]) == ("UsageError", "the model gives classes, and no embeddin")


def test_a_class_that_wins_nowhere(driver, single, target_bundle, tmp_path):
    """The error names the classes that do."""
    bundle, network = single("segment"), target_bundle("segment").network
    grey = np.full((*SIZE, 3), 128, np.uint8)
    grey.tofile(tmp_path / "grey")
    wins = network.wins(preprocess(grey, read_bundle(bundle).preprocessing)).sum((1, 2))
    absent = int(np.flatnonzero(wins == 0)[0])
    with pytest.raises(UsageError) as error:
        in_python(bundle, grey, Region(absent))
    given = told_of(("class", absent, 0, ""), tmp_path)
    found = driver.ask("target", bundle, tmp_path / "grey", *SIZE, *given, tmp_path / "out")
    assert found == ("UsageError", str(error.value))


def test_the_sample_explains_a_mask_and_a_likeness(built, single, photo, tmp_path):
    program = built.sample.with_name("fusioncam_target")

    def run(*words):
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    names = {name: tmp_path / f"{name}.ppm" for name in ("photo", "mask", "overlay")}
    cv2.imwrite(str(names["photo"]), photo[0][..., ::-1])
    cv2.imwrite(str(names["mask"]), np.repeat(MASK[..., None], 3, axis=2))
    np.save(tmp_path / "vector.npy", REFERENCE)
    for kind, file, target in (
        ("segment", names["mask"], Region(mask=MASK)),
        ("embed", tmp_path / "vector.npy", Like(REFERENCE)),
    ):
        bundle = single(kind)
        expected = in_python(bundle, photo[0], target)[1]
        status, out, err = run(bundle, names["photo"], names["overlay"], file)
        assert (status, err, f"score {expected['scores']:.3f} ->" in out) == (0, "", True)
        preprocessing = read_bundle(bundle).preprocessing
        drawn = overlay(photo[0], on_photo(expected["fusion_cam"], SIZE, preprocessing))
        assert np.abs(read_image(names["overlay"]).astype(int) - drawn).max() <= 1
    status, out, _ = run(single("embed"), names["photo"], names["overlay"], names["photo"])
    assert (status, "score 1.000 ->" in out) == (0, True)
    for words, said in (((), "usage: "), ((single("segment"), *names.values(), "two"), "error: CLASS must")):
        status, _, err = run(*words)
        assert (status, err[: len(said)]) == (2, said)


@pytest.mark.parametrize(
    ("key", "value"), [("task", "draw"), ("map_size", None), ("map_size", "12"), ("map_size", "0 16")]
)
def test_metadata_of_a_task_that_make_no_sense(key, value, driver, single, tmp_path):
    model = onnx.load(single("segment") / "fusioncam.onnx")
    kept = {p.key: p.value for p in model.metadata_props}
    kept[f"fusioncam.{key}"] = value
    onnx.helper.set_model_props(model, {k: v for k, v in kept.items() if v is not None})
    onnx.save(model, tmp_path / "bad.onnx")
    kind, text = driver.ask("open", tmp_path / "bad.onnx")
    assert (kind, f"fusioncam.{key}" in text, text.count("\n")) == ("BundleError", True, 0)

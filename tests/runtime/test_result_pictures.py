"""A result draws and saves itself as the command line does, from a photo that it keeps only where it should."""

import gc
import io
import json
import pickle
import weakref

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import ImageError, OutputError, UsageError
from fusioncam.runtime.difference import difference
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.picture import overlay, panel, tile_of

BY_HAND = Explanation({"grad_cam": np.zeros((2, 3), np.float32)}, 1, None, 0.5, (), Passes(0, 0), {})


@pytest.fixture(scope="module")
def explainer(tiny):
    return Explainer(tiny.bundle, methods=["layer_cam", "grad_cam"])


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(5).integers(0, 256, (330, 900, 3), np.uint8)


@pytest.fixture
def file(photo, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), photo[..., ::-1])
    return tmp_path / "photo.png"


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def test_pictures_are_those_of_the_command_line(run, bundle, work, tmp_path):
    rng = np.random.default_rng(6)
    for name, size in {"wide": (330, 900), "sliver": (60, 900), "small": (50, 60)}.items():
        cv2.imwrite(str(work / f"{name}.png"), rng.integers(0, 256, (*size, 3), np.uint8))
    explainer, drawing = Explainer(bundle), {"style": "contour", "colormap": "turbo"}
    words = ["--style", "contour", "--colormap", "turbo"]
    for name, more, options in (("wide", [], {}), ("wide", words, drawing), ("sliver", [], {}), ("small", [], {})):
        assert run("explain", bundle, f"{name}.png", "-c", "2", "--separate", "-o", tmp_path, *more)[0] == 0
        found = explainer.explain(f"{name}.png", 2)
        np.testing.assert_array_equal(found.panel(**options), read(tmp_path / f"{name}.png"))
        for method in found.maps:
            made = found.overlay(method, **options)
            np.testing.assert_array_equal(made, read(tmp_path / f"{name}.{method}.png"))
    assert run("explain", bundle, "wide.png", "-c", "2", "--versus", "0", "--separate", "-o", tmp_path)[0] == 0
    versus = difference(*explainer.explain_batch(["wide.png"], [[2, 0]]))
    np.testing.assert_array_equal(versus.panel(), read(tmp_path / "wide.png"))
    np.testing.assert_array_equal(versus.overlay(), read(tmp_path / "wide.fusion_cam.png"))
    assert repr(versus).startswith("<Difference of wide.png: What speaks for ")


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (256, 300), (400, 401), (333, 2000), (900, 731)])
def test_a_panel_of_the_small_picture_has_the_same_pixels(size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    saliency = {"grad_cam": np.random.default_rng(1).random((24, 32)).astype(np.float32)}
    small = tile_of(photo)
    assert max(small.shape) <= 400
    np.testing.assert_array_equal(panel(small, saliency, "cat"), panel(photo, saliency, "cat"))


def test_a_photo_on_disk_is_read_again_and_must_be_the_same(explainer, file, photo):
    for found in (explainer.explain(file), *explainer.explain_batch([file])):
        expected = found.overlay("grad_cam")
        assert expected.shape == photo.shape
        file.rename(file.with_suffix(".moved"))
        with pytest.raises(ImageError, match="there is no picture"):
            found.overlay("grad_cam")
        assert found.panel().any()
        np.testing.assert_array_equal(found.overlay("grad_cam", photo), expected)
        cv2.imwrite(str(file), photo)  # blue and red change places
        with pytest.raises(UsageError, match="not the photo that was explained, or it has changed since"):
            found.overlay("grad_cam")
        file.with_suffix(".moved").rename(file)


def test_other_photos_are_kept_where_asked(explainer, file, photo):
    expected = explainer.explain(file).overlay()
    for give in (lambda: photo, file.read_bytes, lambda: io.BytesIO(file.read_bytes())):
        found = explainer.explain(give())
        for kept in (found, pickle.loads(pickle.dumps(found)), *explainer.explain_batch([give()], keep_photos=True)):
            np.testing.assert_array_equal(kept.overlay(), expected)
    for found in (explainer.explain(photo, keep_photo=False), *explainer.explain_batch([photo])):
        with pytest.raises(UsageError, match=r"is not kept: pass it, as photo=..., or explain with keep_photo=True"):
            found.overlay()
        np.testing.assert_array_equal(found.overlay(photo=file), expected)


def test_a_batch_keeps_no_photos_by_itself(explainer, photo):
    held = []

    def photos():
        for _ in range(3):
            held.append(weakref.ref(image := photo.copy()))
            yield image

    for keep in (False, True):
        held.clear()
        found = explainer.explain_batch(photos(), keep_photos=keep)
        gc.collect()
        assert [reference() is not None for reference in held] == [keep] * 3
        assert sum(e.photo.shown.nbytes for e in found) <= 3 * 400 * 400 * 3


def test_a_photo_that_changes_in_memory_is_noticed(explainer, photo):
    frame = photo.copy()
    found = explainer.explain(frame)
    frame[:] = 0
    with pytest.raises(UsageError, match="changed since"):
        found.overlay()


def test_a_preprocessed_picture_is_drawn_on_the_models_input(explainer, pictures):
    found = explainer.explain(pictures[0])
    assert found.overlay("grad_cam").shape == (24, 32, 3)
    np.testing.assert_array_equal(found.overlay("grad_cam"), overlay(found.photo.shown, found.maps["grad_cam"]))
    assert found.panel().any()


def test_a_notebook_shows_the_panel(explainer, file):
    found = explainer.explain(file)
    shown = cv2.imdecode(np.frombuffer(found._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., ::-1], found.panel())
    assert BY_HAND._repr_png_() is None
    assert repr(found).startswith(f"<Explanation of {file}: class {found.class_index} 0.")
    assert "layer_cam, grad_cam (24 x 32); 0 passes" in repr(found)
    assert repr(BY_HAND) == "<Explanation: class 1 0.50; grad_cam (2 x 3); 0 passes>"


def test_saving(explainer, file, tmp_path, load_maps):
    found = explainer.explain(file, 3)
    for path in (tmp_path / "a.png", tmp_path / "a.npz", str(tmp_path / "a.json"), tmp_path / "a.WEBP"):
        assert list(map(str, found.save(path))) == [str(path)]
    np.testing.assert_array_equal(read(tmp_path / "a.png"), found.panel())
    assert np.abs(read(tmp_path / "a.WEBP").astype(int) - found.panel()).mean() < 5
    assert json.loads((tmp_path / "a.json").read_text()) == found.summary()
    for folder in (tmp_path / "new" / "out", tmp_path):
        files = found.save(folder, style="contour")
        assert [f.name for f in files] == ["photo-3.npz", "photo-3.json", "photo-3.png"]
        record = json.loads(files[1].read_text())
        assert record == {
            **found.summary(), "maps": str(files[0]), "picture": str(files[2]), "resolution": "model",
        }  # fmt: skip
        np.testing.assert_array_equal(read(files[2]), found.panel(style="contour"))
    for path in (files[0], tmp_path / "a.npz"):
        maps = load_maps(path)
        assert list(maps) == ["layer_cam", "grad_cam"]
        np.testing.assert_array_equal(maps["grad_cam"], found.maps["grad_cam"])
    assert explainer.explain(np.zeros((9, 9, 3), np.uint8), 3).save(tmp_path)[0].name == "picture-3.npz"
    everything = found.to_dict()
    assert everything.keys() == found.summary().keys() | {"maps", "logits"}
    np.testing.assert_array_equal(everything["maps"]["grad_cam"], found.maps["grad_cam"])


def test_saving_is_whole_or_not_at_all(explainer, file, tmp_path):
    found = explainer.explain(file, 3)
    with pytest.raises(UsageError, match=r"as '.jpg': end the name in .png, .webp, .npz or .json, or name a folder"):
        found.save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="no style 'none'"):
        found.save(tmp_path / "out", style="none")
    with pytest.raises(UsageError, match="no Explainer made this result"):
        BY_HAND.save(tmp_path / "out")
    with pytest.raises(OutputError, match="No such file or directory: make its folder first"):
        found.save(tmp_path / "missing" / "a.png")
    with pytest.raises(OutputError, match="too long: choose a shorter name"):
        found.save(tmp_path / f"{'x' * 300}.png")
    assert {path.name for path in tmp_path.rglob("*")} == {"photo.png"}


@pytest.mark.parametrize("method", ["score_cam", "", 5])
def test_a_map_that_was_not_made(explainer, file, method):
    with pytest.raises(UsageError, match=r"no map of .* was made; there are layer_cam, grad_cam"):
        explainer.explain(file).overlay(method)

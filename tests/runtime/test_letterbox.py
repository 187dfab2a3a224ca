"""A model of letterboxed pictures from the photo to the panel: the padding is explained, and never shown."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, export_model
from fusioncam.runtime.evaluation.annotations.model_input import in_model_input
from fusioncam.runtime.evaluation.pictures import small_pictures
from fusioncam.runtime.photos.geometry import on_shown
from fusioncam.runtime.photos.given import open_given
from fusioncam.runtime.picture import panel, tile_of

METHODS = ["grad_cam", "score_cam"]


@pytest.fixture(scope="module")
def explainer(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("letterbox")
    export_model(make_model(folder / "tiny.onnx"), folder / "tiny.fcam", preprocessing="yolo")
    return Explainer(folder / "tiny.fcam", methods=METHODS)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(5).integers(0, 256, (33, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def found(explainer, photo):
    return explainer.explain(photo, 1, keep_photo=True)


def test_the_model_gets_what_the_library_makes_by_hand(explainer, photo, found):
    whole = np.full((24, 24, 3), 114, np.uint8)
    whole[7:16] = cv2.resize(photo, (24, 9), interpolation=cv2.INTER_LINEAR)
    x = whole.transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)
    by_hand = explainer.explain(x, 1)
    np.testing.assert_array_equal(by_hand.logits, found.logits)
    for method in METHODS:
        np.testing.assert_array_equal(by_hand.maps[method], found.maps[method])
    assert by_hand.panel().shape[0] > found.panel().shape[0]  # a square: with its padding


@pytest.fixture(scope="module")
def padding_only(found):
    """The result with maps that are high on the padding and nowhere else, and the same with maps of zeros."""
    low = np.zeros((24, 24), np.float32)
    high = np.ones((24, 24), np.float32)
    on_shown(high, (33, 90), found.preprocessing)[...] = 0
    return tuple(replace(found, maps=dict.fromkeys(METHODS, values)) for values in (high, low))


def test_no_picture_shows_the_padding(padding_only, photo):
    high, low = padding_only
    np.testing.assert_array_equal(high.panel(), low.panel())
    np.testing.assert_array_equal(high.overlay(photo=photo), low.overlay(photo=photo))
    np.testing.assert_array_equal(high.on_photo("grad_cam"), low.on_photo("grad_cam"))
    given = open_given(photo, high.preprocessing)
    for method, picture in small_pictures(given, high).items():
        np.testing.assert_array_equal(picture, small_pictures(given, low)[method])


def test_a_panel_draws_the_part_of_the_map_on_the_photo(found, photo):
    maps = {method: saliency[7:16] for method, saliency in found.maps.items()}
    drawn = panel(tile_of(photo), maps, found.title, found.shown_probability, found.notes, facts=found.facts)
    np.testing.assert_array_equal(found.panel(), drawn)


def test_a_region_of_the_photo_is_none_of_the_padding(found):
    preprocessing = found.preprocessing.model_copy(update={"pad": (255.0,) * 3})
    inside = in_model_input(np.ones((33, 90), np.bool_), preprocessing)
    np.testing.assert_array_equal(np.flatnonzero(inside.all(axis=1)), np.arange(7, 16))
    assert inside.sum() == 9 * 24


@pytest.mark.parametrize("form", ["grey", "four", "thirteen"])
def test_models_of_any_channels(bundles, channels, form):
    own = {**channels.REFLECTANCE, "resize": "letterbox", "pad": 0}
    folder = bundles(form, preprocessing=own)
    array = channels.raw(channels.FORMS[form][0])[:20]
    result = Explainer(folder, methods=["grad_cam"]).explain(array, keep_photo=True)
    assert result.preprocessing.pad == (0,) * channels.FORMS[form][0]
    assert result.on_photo("grad_cam").shape == (20, 50)
    assert result.overlay().shape == (20, 50, 3)
    assert result.panel().ndim == 3
